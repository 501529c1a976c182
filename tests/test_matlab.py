"""Stacks of images in MATLAB files, against files that scipy writes."""

import struct

import numpy as np
import pytest
import scipy.io

from pipcli.errors import ImageError
from pipcli.evaluation.matlab import Block, read_block, read_stack, stack_shape

BLOCKS = np.random.default_rng(0).integers(0, 256, (3, 2, 5, 7, 3), np.uint8)


def save(path, arrays, deflated=True):
    scipy.io.savemat(path, arrays, do_compression=deflated)
    return path


@pytest.mark.parametrize("deflated", [True, False])
@pytest.mark.parametrize("name", ["ValidationNoisyBlocksSrgb", "gt"])
def test_blocks_are_those_that_scipy_wrote(tmp_path, name, deflated):
    path = save(tmp_path / "blocks.mat", {name: BLOCKS}, deflated)
    assert stack_shape(path) == BLOCKS.shape
    np.testing.assert_array_equal(read_stack(path), BLOCKS)
    np.testing.assert_array_equal(read_block(Block(path, 2, 1)), BLOCKS[2, 1])
    assert read_block(Block(path, 2, 1)).flags.c_contiguous


def test_a_block_says_where_it_lies(tmp_path):
    assert str(Block(tmp_path / "a.mat", 0, 31)) == f"{tmp_path / 'a.mat'}: scene 1, block 32"


@pytest.mark.parametrize(
    "array",
    [
        BLOCKS.astype(np.uint16),
        BLOCKS.astype(np.float64),
        BLOCKS[0],
        BLOCKS[..., :1],
        BLOCKS[:0],
        np.zeros(3),
    ],
)
def test_other_arrays_are_refused(tmp_path, array):
    path = save(tmp_path / "blocks.mat", {"blocks": array})
    with pytest.raises(ImageError, match=r"blocks\.mat: is no MATLAB file of 8-bit image blocks: its first"):
        stack_shape(path)


def test_files_of_version_7_3_are_told_with_a_remedy(tmp_path):
    path = tmp_path / "blocks.mat"
    path.write_bytes(b"MATLAB 7.3 MAT-file".ljust(124) + struct.pack("<H2s", 0x0200, b"IM") + b"\x89HDF")
    with pytest.raises(ImageError, match=r"7\.3 \(HDF5\).*-v7"):
        read_stack(path)


def test_files_that_are_missing_or_of_another_kind(tmp_path):
    with pytest.raises(ImageError, match=r"missing\.mat: cannot be read: No such file"):
        stack_shape(tmp_path / "missing.mat")
    text = tmp_path / "text.mat"
    text.write_text("no matrix " * 50)
    with pytest.raises(ImageError, match="another format"):
        stack_shape(text)


@pytest.mark.parametrize("deflated", [True, False])
def test_every_cut_ends_in_one_line(tmp_path, deflated):
    path = save(tmp_path / "whole.mat", {"blocks": BLOCKS}, deflated)
    content = path.read_bytes()
    for length in range(0, len(content) - 8, 7):
        cut = tmp_path / f"{length}.mat"
        cut.write_bytes(content[:length])
        with pytest.raises(ImageError, match=rf"{length}\.mat: is no MATLAB file"):
            read_stack(cut)
