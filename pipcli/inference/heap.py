"""Memory that is freed stays with the process, so that the next tile need not ask for it again.

By default glibc gives every large tensor back as it is freed, and the system fills its pages with zeros anew
for the next: a sixth of the time of a tile on the CPU.
"""

from __future__ import annotations

import ctypes
import sys

_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_MAX = -1, -2, -4
_MOST = 2**31 - 1
_TOP_PAD = 64 * 2**20


def keep_freed_memory() -> bool:
    """Ask the C library to keep what is freed, from now on and in the whole process; whether it will.

    A process that did so stays as large as it has ever been. Only glibc, on Linux, can be asked.
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):  # another C library
        return False
    # One after the other, all of them: what one call says does not decide about the next.
    answers = mallopt(_M_MMAP_MAX, 0), mallopt(_M_TRIM_THRESHOLD, _MOST), mallopt(_M_TOP_PAD, _TOP_PAD)
    return all(answers)
