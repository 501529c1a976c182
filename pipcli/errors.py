"""Every error that pipcli raises on purpose, each with the exit code of the command line.

The library raises these; only ``cli/`` turns them into one line on stderr and an exit status.

    PipcliError                 1    something that should not happen
    ├── UsageError              2    an option, a task or an input path is wrong
    ├── ImageError              3    one file cannot be read or restored; the others go on
    ├── ModelError              5    weights missing, damaged, or not of this program
    ├── DeviceError             6    no such device, or the model does not fit on it
    │   └── DeviceMemoryError   6    out of memory while computing; less at once may still fit
    ├── OutputError             7    the output cannot be written
    └── ExportError             8    an exported file does not do what its model does

What is raised ends a command. A run over many files goes on, and its exit code says how it went.
"""

SOME_FAILED, ALL_FAILED, INTERRUPTED = 3, 4, 130
"""Exit codes of whole runs: some files failed, all did, or the user stopped it."""


class PipcliError(Exception):
    """Root of the tree; its text is one line that names the thing, its value and the limit."""

    exit_code = 1


class UsageError(PipcliError):
    """The request itself is wrong: an unknown task, a missing input, an option out of range."""

    exit_code = 2


class ImageError(PipcliError):
    """One file cannot be read or restored; a batch records it and goes on."""

    exit_code = 3


class ModelError(PipcliError):
    """Weights are missing, damaged, or describe a model this version cannot build."""

    exit_code = 5


class DeviceError(PipcliError):
    """The device is not there, or its memory does not hold even the smallest tile."""

    exit_code = 6


class DeviceMemoryError(DeviceError):
    """The device's memory does not hold what was to be computed at once."""


class OutputError(PipcliError):
    """The output cannot be written: permissions, a full disk, a path that is no folder."""

    exit_code = 7


class ExportError(PipcliError):
    """An exported file does not do what its model does, or the model cannot be exported; no file is kept."""

    exit_code = 8
