"""ICC profiles made by hand, whose colours are known."""

from __future__ import annotations

import struct

import numpy as np


def grey_ink_profile() -> bytes:
    """A CMYK profile (ICC.1:2001, mft1) in which inks make only grey: L* = 100 (1 - k/2 - (c+m+y)/6).

    Linear, so that it does not matter how the corners are interpolated.
    """
    grid = np.stack(np.meshgrid(*[[0, 1]] * 4, indexing="ij"), axis=-1).reshape(16, 4)
    lightness = 255 * (1 - grid[:, 3] / 2 - grid[:, :3].sum(axis=1) / 6)
    table = np.stack([lightness, np.full(16, 128), np.full(16, 128)], axis=1).round().astype(np.uint8)
    ramp = bytes(range(256))
    unit = [65536 if i % 4 == 0 else 0 for i in range(9)]
    a_to_b = struct.pack(">4s4xBBBx9i", b"mft1", 4, 3, 2, *unit) + 4 * ramp + table.tobytes() + 3 * ramp
    white = struct.pack(">4s4x3i", b"XYZ ", 63190, 65536, 54061)
    name = struct.pack(">4s4xI5s", b"desc", 5, b"grey\0") + bytes(78)
    contents, directory, position = b"", struct.pack(">I", 3), 128 + 4 + 36
    for kind, content in ((b"desc", name), (b"wtpt", white), (b"A2B0", a_to_b)):
        directory += struct.pack(">4sII", kind, position + len(contents), len(content))
        contents += content + bytes(-len(content) % 4)
    size = position + len(contents)
    header = struct.pack(
        ">I4sI4s4s4s12x4s28x3i",
        size,
        b"",
        0x02400000,
        b"prtr",
        b"CMYK",
        b"Lab ",
        b"acsp",
        63190,
        65536,
        54061,
    )
    return header.ljust(128, b"\0") + directory + contents
