"""Finding sets and pairing their files by name."""

from pathlib import Path

import numpy as np
import pytest
import scipy.io
from PIL import Image as PillowImage

from pipcli.degradations import Degradation
from pipcli.errors import ImageError, UsageError
from pipcli.evaluation.datasets import (
    Dataset,
    Layout,
    StackLayout,
    data_roots,
    locate,
    own_folder,
    read_layout,
    read_stack_layout,
)
from pipcli.evaluation.reading import pixel_digest, read_pixels


def put(folder: Path, *names: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        PillowImage.new("RGB", (4, 4)).save(folder / name)


def pairs_of(located):
    return {
        pair.name: (pair.degraded.name if pair.degraded else None, pair.clean.name) for pair in located.pairs
    }


def test_pairs_are_made_by_name_not_by_order(tmp_path):
    put(tmp_path / "in", "10.png", "2.webp", "1.jpg")
    put(tmp_path / "out", "1.png", "2.png", "10.png")
    located = read_layout(tmp_path, Layout("out", "in"))
    assert pairs_of(located) == {
        "1": ("1.jpg", "1.png"),
        "2": ("2.webp", "2.png"),
        "10": ("10.png", "10.png"),
    }
    # Numbers count as numbers, so that --limit takes the first ones.
    assert [pair.name for pair in located.pairs] == ["1", "2", "10"]
    assert located.problems == ()


def test_files_without_a_partner_are_named(tmp_path):
    put(tmp_path / "in", "1.png", "2.png")
    put(tmp_path / "out", "2.png", "3.png")
    located = read_layout(tmp_path, Layout("out", "in"))
    assert list(pairs_of(located)) == ["2"]
    assert [Path(line.split(":")[0]).name for line in located.problems] == ["1.png", "3.png"]
    assert "no true image" in located.problems[0]
    assert "no input" in located.problems[1]


def test_two_files_of_one_name(tmp_path):
    put(tmp_path / "in", "1.png")
    put(tmp_path / "out", "1.bmp", "1.png")
    located = read_layout(tmp_path, Layout("out", "in"))
    assert len(located.pairs) == 1
    assert len(located.problems) == 1


def test_several_inputs_of_one_true_image(tmp_path):
    put(tmp_path / "hazy", "1400_1.png", "1400_2.png", "1401_1.png")
    put(tmp_path / "gt", "1400.png", "1401.png")
    located = read_layout(tmp_path, Layout("gt", "hazy", r"(\d+)", r"(\d+)_\d+"))
    assert [pair.clean.name for pair in located.pairs] == ["1400.png", "1400.png", "1401.png"]
    assert located.problems == ()


def test_scenes_in_folders_of_their_own(tmp_path):
    for scene in ("a", "b"):
        put(tmp_path / "test" / scene / "blur", "000001.png")
        put(tmp_path / "test" / scene / "sharp", "000001.png")
    located = read_layout(tmp_path, Layout("test/*/sharp", "test/*/blur"))
    assert [pair.name for pair in located.pairs] == ["a/000001", "b/000001"]
    for pair in located.pairs:
        assert pair.clean.parts[-3] == pair.degraded.parts[-3]


def test_names_beside_others_in_one_folder(tmp_path):
    put(tmp_path / "set", "norain-1.png", "norain-2.png", "rain-1.png", "notes.bmp")
    put(tmp_path / "set" / "rainy", "rain-1.png", "rain-2.png")
    located = read_layout(tmp_path, Layout("set", "set/rainy", r"norain-(\d+)", r"rain-(\d+)"))
    assert pairs_of(located) == {
        "rain-1": ("rain-1.png", "norain-1.png"),
        "rain-2": ("rain-2.png", "norain-2.png"),
    }


def test_hidden_files_texts_and_folders_are_no_images(tmp_path):
    put(tmp_path / "set", "1.png", ".2.png")
    put(tmp_path / "set" / "3.png", "4.png")
    (tmp_path / "set" / "readme.txt").write_text("no image")
    assert list(pairs_of(read_layout(tmp_path, Layout("set")))) == ["1"]


def save_stack(path, shape, seed=0):
    blocks = np.random.default_rng(seed).integers(0, 256, shape, np.uint8)
    path.parent.mkdir(exist_ok=True)
    scipy.io.savemat(path, {path.stem: blocks}, do_compression=True)
    return blocks


def test_blocks_of_matlab_files_are_pairs(tmp_path):
    clean = save_stack(tmp_path / "SIDD" / "clean.mat", (2, 3, 8, 8, 3), 1)
    noisy = save_stack(tmp_path / "SIDD" / "noisy.mat", (2, 3, 8, 8, 3), 2)
    dataset = Dataset("s", {Degradation.NOISE: 1.0}, 6, (StackLayout("SIDD/clean.mat", "SIDD/noisy.mat"),))
    located = locate(dataset, [tmp_path])
    assert [pair.name for pair in located.pairs] == ["1/1", "1/2", "1/3", "2/1", "2/2", "2/3"]
    assert located.problems == ()
    np.testing.assert_array_equal(read_pixels(located.pairs[4].clean), clean[1, 1])
    np.testing.assert_array_equal(read_pixels(located.pairs[4].degraded), noisy[1, 1])
    assert "SIDD/noisy.mat" in dataset.steps


def test_matlab_files_that_are_missing_damaged_or_do_not_fit(tmp_path):
    layout = StackLayout("s/clean.mat", "s/noisy.mat")
    save_stack(tmp_path / "s" / "clean.mat", (2, 3, 8, 8, 3))
    assert read_stack_layout(tmp_path, layout) is None
    save_stack(tmp_path / "s" / "noisy.mat", (2, 2, 8, 8, 3))
    located = read_stack_layout(tmp_path, layout)
    assert located.pairs == ()
    assert "2×2×8×8×3 and 2×3×8×8×3" in located.problems[0]
    (tmp_path / "s" / "noisy.mat").write_text("no matrix")
    located = read_stack_layout(tmp_path, layout)
    assert located.pairs == ()
    assert "noisy.mat: is no MATLAB file" in located.problems[0]


def test_a_layout_that_is_not_there(tmp_path):
    put(tmp_path / "in", "1.png")
    assert read_layout(tmp_path, Layout("out", "in")) is None
    assert read_layout(tmp_path, Layout("out")) is None


def test_sets_are_looked_for_in_each_root_and_in_test_below_it(tmp_path):
    dataset = Dataset("set", {}, 1, (Layout("one"), Layout("two")))
    put(tmp_path / "b" / "test" / "two", "1.png")
    assert locate(dataset, [tmp_path / "a", tmp_path / "b"]).root == tmp_path / "b" / "test"
    put(tmp_path / "a" / "one", "1.png")
    assert locate(dataset, [tmp_path / "a", tmp_path / "b"]).root == tmp_path / "a"
    assert locate(dataset, [tmp_path / "c"]) is None


def test_roots(tmp_path, monkeypatch):
    monkeypatch.setenv("PIPCLI_DATA", str(tmp_path / "elsewhere"))
    assert data_roots(tmp_path) == (tmp_path,)
    assert data_roots(None) == (tmp_path / "elsewhere", Path("data"), Path("../shared/data"))
    with pytest.raises(UsageError, match="no folder"):
        data_roots(tmp_path / "missing")


def test_folders_of_ones_own(tmp_path):
    put(tmp_path / "low", "1.png")
    put(tmp_path / "high", "1.jpg")
    dataset, located = own_folder(tmp_path / "high", tmp_path / "low")
    assert dataset.paired
    assert dataset.name == "low"
    assert pairs_of(located) == {"1": ("1.png", "1.jpg")}
    dataset, located = own_folder(tmp_path / "high", None)
    assert not dataset.paired
    assert pairs_of(located) == {"1": (None, "1.jpg")}


def test_images_of_one_stem_are_told_apart(tmp_path):
    put(tmp_path / "high", "1.jpg", "1.png", "2.png", "3².png")
    _, located = own_folder(tmp_path / "high", None)
    assert [pair.name for pair in located.pairs] == ["1.jpg", "1.png", "2", "3²"]
    put(tmp_path / "true", "1.png")
    put(tmp_path / "dark", "1.jpg", "1.png")
    _, located = own_folder(tmp_path / "true", tmp_path / "dark")
    assert pairs_of(located) == {"1.jpg": ("1.jpg", "1.png"), "1.png": ("1.png", "1.png")}


def test_folders_of_ones_own_that_hold_nothing(tmp_path):
    put(tmp_path / "high", "1.jpg")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match="empty: holds no images"):
        own_folder(tmp_path / "high", tmp_path / "empty")
    with pytest.raises(UsageError, match="missing: is no folder"):
        own_folder(tmp_path / "high", tmp_path / "missing")


def test_steps_name_the_folders():
    dataset = Dataset("set", {Degradation.RAIN: 1.0}, 1, (Layout("out", "in"),), page="https://example.org")
    assert "https://example.org" in dataset.steps
    assert "in/" in dataset.steps
    assert "out/" in dataset.steps


def test_pixels_and_their_digest_do_not_depend_on_the_format(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (5, 7, 3), np.uint8)
    PillowImage.fromarray(pixels).save(tmp_path / "a.png")
    PillowImage.fromarray(pixels).save(tmp_path / "a.webp", lossless=True)
    one, two = read_pixels(tmp_path / "a.png"), read_pixels(tmp_path / "a.webp")
    np.testing.assert_array_equal(one, pixels)
    assert pixel_digest(one) == pixel_digest(two)
    assert pixel_digest(one) != pixel_digest(pixels[:, ::-1])
    assert pixel_digest(one) != pixel_digest(pixels.reshape(7, 5, 3))


def test_16_bit_files_are_refused(tmp_path):
    PillowImage.fromarray(np.zeros((4, 4), np.uint16)).save(tmp_path / "a.png")
    with pytest.raises(ImageError, match="uint16"):
        read_pixels(tmp_path / "a.png")
