"""Stacks of images in MATLAB files, which is how SIDD's blocks are published.

Source: MathWorks, "MAT-File Format", level 5 (MATLAB 5 to 7.2, little-endian): a header of 128 bytes, then
elements, each a tag (type, bytes) and its content, padded to 8 bytes. An element of type 15 is another one,
deflated.
"""

from __future__ import annotations

import math
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipcli.errors import ImageError

Stack = NDArray[np.uint8]

_HEADER, _LEVEL_5, _HDF5 = 128, 0x0100, 0x0200
_BYTES, _MATRIX, _DEFLATED = 2, 14, 15
_CLASS_UINT8 = 9
_BEFORE_VALUES = 512
"""Bytes that hold all that is said of an array before its values: names have 63 letters at most."""


@dataclass(frozen=True)
class Block:
    """One image in a MATLAB file of many: its scene, and its place among the scene's blocks, both from 0."""

    file: Path
    scene: int
    block: int

    def __str__(self) -> str:
        return f"{self.file}: scene {self.scene + 1}, block {self.block + 1}"


def stack_shape(path: Path) -> tuple[int, ...]:
    """Shape of :func:`read_stack`'s array, without reading its values. Errors as there."""
    with _named(path):
        shape, _ = _described(_array(path, _BEFORE_VALUES))
        return shape


# Two, for a pair's images lie in two files, and a deflated one can only be read as a whole.
@lru_cache(maxsize=2)
def read_stack(path: Path) -> Stack:
    """The first array of a file: scenes × blocks × height × width × 3.

    Raises:
        ImageError: the file cannot be read, is damaged or of another kind, or its first array is another; one
            line that starts with the path.
    """
    with _named(path):
        shape, start = _described(_array(path, _BEFORE_VALUES))
        content = _array(path, start + math.prod(shape))
        return np.frombuffer(content, np.uint8, offset=start).reshape(shape, order="F")


def read_block(block: Block) -> Stack:
    """One image, height × width × 3. Errors as in :func:`read_stack`."""
    return np.ascontiguousarray(read_stack(block.file)[block.scene, block.block])


@contextmanager
def _named(path: Path) -> Iterator[None]:
    """Turn what goes wrong with a file into an ImageError that begins with its path."""
    try:
        yield
    except OSError as error:
        raise ImageError(f"{path}: cannot be read: {error.strerror}") from error
    except (ValueError, struct.error, zlib.error) as error:
        raise ImageError(f"{path}: is no MATLAB file of 8-bit image blocks: {error}") from error


def _array(path: Path, most: int) -> bytes:
    """The first ``most`` bytes of a file's first array, its tag left out."""
    with path.open("rb") as file:
        version, order = struct.unpack("<H2s", file.read(_HEADER)[-4:])
        if (version, order) == (_HDF5, b"IM"):
            raise ValueError("it is of version 7.3 (HDF5): save it in MATLAB with -v7")
        if (version, order) != (_LEVEL_5, b"IM"):
            raise ValueError("the header is that of another format")
        kind, length = struct.unpack("<II", file.read(8))
        if kind != _DEFLATED:
            content = file.read(min(most, length))
        else:
            inflated = zlib.decompressobj().decompress(file.read(length), 8 + most)
            kind, content = struct.unpack_from("<I", inflated)[0], inflated[8:]
    if kind != _MATRIX:
        raise ValueError("its first element is no array")
    return content


def _described(content: bytes) -> tuple[tuple[int, ...], int]:
    """An array's shape, and where in its content the values begin."""
    flags, place = _element(content, 0)
    dimensions, place = _element(content, place)
    _, place = _element(content, place)  # its name, which is no matter
    shape = struct.unpack(f"<{len(dimensions) // 4}i", dimensions)
    if not flags or flags[0] != _CLASS_UINT8 or len(shape) != 5 or shape[-1] != 3 or min(shape) < 1:
        words = "×".join(map(str, shape))
        raise ValueError(f"its first array is not scenes × blocks × height × width × 3 uint8 but has {words}")
    kind, length = struct.unpack_from("<II", content, place)
    if kind != _BYTES or length != math.prod(shape):
        raise ValueError("its values are not stored as bytes")
    return shape, place + 8


def _element(content: bytes, place: int) -> tuple[bytes, int]:
    """The content of the element at a place, and where the next one begins."""
    kind, length = struct.unpack_from("<II", content, place)
    if kind >> 16:  # at most 4 bytes are packed into the tag itself
        return content[place + 4 : place + 4 + (kind >> 16)], place + 8
    start = place + 8
    return content[start : start + length], start + -(-length // 8) * 8
