"""Training data: the split, and what the recipe's shares promise of a batch."""

from __future__ import annotations

import itertools
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from photographs import FRAMES, HELD_OUT_STEMS, TRAINING_STEMS, write
from PIL import Image
from scans import save, scan
from torch.nn import functional as F

from pipcli.degradations import Degradation
from pipcli.errors import UsageError
from pipcli.synthesis import SynthesisRanges
from pipcli.synthesis.noise import NoiseRanges
from pipcli.training import data
from pipcli.training.bank import PixelBank
from pipcli.training.data import (
    FRAME_GAP,
    HELD_OUT_EVERY,
    HELD_OUT_FRAMES,
    BatchMaker,
    Photographs,
    load_photographs,
)
from pipcli.training.recipe import DataShares, Stage

CPU = torch.device("cpu")
ALL = tuple(Degradation)
STAGE = Stage(1.0, 32, dict(zip(ALL, (3, 2, 1, 2, 4), strict=True)))
PLAIN = DataShares()
# Noise that is always there, so that a noisy crop never equals its target.
RANGES = SynthesisRanges(noise=NoiseRanges(sigma=(25.0, 50.0), eight_bit_chance=0.0))


@pytest.fixture(scope="module")
def splits(photo_folder: Path) -> tuple[Photographs, Photographs]:
    return load_photographs(photo_folder, CPU, 32)


def maker(photographs: Photographs, shares: DataShares = PLAIN, degradations=ALL) -> BatchMaker:
    return BatchMaker(photographs, degradations, shares, RANGES)


def images_of(bank: PixelBank) -> list[bytes]:
    """The bank's images, each as its size and bytes."""
    ends = [*bank.starts.tolist()[1:], len(bank.pixels)]
    sizes = zip(bank.heights.tolist(), bank.widths.tolist(), strict=True)
    return [
        repr(size).encode() + bank.pixels[start:end].numpy().tobytes()
        for size, start, end in zip(sizes, bank.starts.tolist(), ends, strict=True)
    ]


def stored(path: Path) -> bytes:
    pixels = np.asarray(Image.open(path))
    return repr(pixels.shape[:2]).encode() + pixels.tobytes()


# The split


def test_nothing_held_out_is_trained_on(splits, photo_folder):
    training, held_out = splits
    for kind in ("photos", "low", "high", "frames"):
        seen, kept = set(images_of(getattr(training, kind))), set(images_of(getattr(held_out, kind)))
        assert seen
        assert kept
        assert not seen & kept


def test_photos_are_split_by_their_names(splits, photo_folder):
    training, held_out = splits
    paths = sorted((photo_folder / "photos").iterdir())
    assert images_of(held_out.photos) == [stored(path) for path in paths[::HELD_OUT_EVERY]]
    assert len(training.photos) + len(held_out.photos) == len(paths)


def test_low_light_pairs_are_split_by_scene_and_stay_pairs(splits, photo_folder):
    for split, stems in zip(splits, (TRAINING_STEMS, HELD_OUT_STEMS), strict=True):
        for kind, bank in (("low", split.low), ("high", split.high)):
            expected = [stored(photo_folder / f"lol/{kind}/{stem}.png") for stem in sorted(stems)]
            assert images_of(bank) == expected


def test_a_gap_lies_between_frames_for_training_and_those_held_out(splits, photo_folder):
    paths = sorted((photo_folder / "frames/pan").iterdir())
    training, held_out = splits
    last = FRAMES - HELD_OUT_FRAMES - FRAME_GAP
    assert images_of(training.frames) == [stored(path) for path in paths[:last]]
    assert images_of(held_out.frames) == [stored(path) for path in paths[-HELD_OUT_FRAMES:]]
    assert training.first_frames.tolist() == list(range(last - 13 + 1))
    assert held_out.first_frames.tolist() == [0]


def copied(photo_folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(photo_folder, tmp_path / "data"))


def test_pairs_and_frames_may_be_missing(photo_folder, tmp_path):
    folder = copied(photo_folder, tmp_path)
    shutil.rmtree(folder / "lol")
    shutil.rmtree(folder / "frames")
    training, _ = load_photographs(folder, CPU)
    batch = maker(training).make(STAGE, 1)
    assert len(batch.inputs) == sum(STAGE.batch.values())


def test_scenes_are_whole_pictures_in_haze(splits, monkeypatch):
    monkeypatch.setattr(data, "SCENE", 16)
    monkeypatch.setattr(data, "SCENE_SHORTEST", 20)
    batches = maker(splits[0], replace(PLAIN, jitter=0.0, smallest_scale=0.8))
    batch = batches.make_scenes({Degradation.HAZE: 7}, 3)
    assert batch.inputs.shape == batch.targets.shape == (7, 3, 16, 16)
    assert batch.omega.tolist() == [[float(each is Degradation.HAZE) for each in ALL]] * 7
    # Haze is bright and even: it lifts the mean and lowers what differs.
    assert (batch.inputs.mean(dim=(1, 2, 3)) > batch.targets.mean(dim=(1, 2, 3))).all()
    assert (batch.inputs.std(dim=(2, 3)) < batch.targets.std(dim=(2, 3))).float().mean() > 0.8
    # Shrunk from 56 pixels to 20, the blobs are a few pixels wide.
    crops = batches.make(Stage(1.0, 16, {Degradation.HAZE: 7}), 3)
    assert batch.targets.diff().abs().mean() > 1.5 * crops.targets.diff().abs().mean()
    assert same(batch, batches.make_scenes({Degradation.HAZE: 7}, 3))
    assert not same(batch, batches.make_scenes({Degradation.HAZE: 7}, 4))


def test_the_share_of_clean_scenes_is_that_of_crops(splits, monkeypatch):
    monkeypatch.setattr(data, "SCENE", 16)
    monkeypatch.setattr(data, "SCENE_SHORTEST", 20)
    scenes = {Degradation.HAZE: 60, Degradation.LOWLIGHT: 20}
    hazy, mixed = (
        maker(splits[0], replace(PLAIN, clean=share)).make_scenes(scenes, 3) for share in (0.0, 0.3)
    )
    clean = (mixed.inputs == mixed.targets).flatten(1).all(1)
    assert 8 <= clean[:60].sum() <= 30
    # What is to be dark has no neutral answer.
    assert not clean[60:].any()
    torch.testing.assert_close(mixed.targets, hazy.targets)
    torch.testing.assert_close(mixed.inputs[~clean], hazy.inputs[~clean])


def test_dark_scenes_are_pairs_and_darkened_pictures(splits, monkeypatch):
    monkeypatch.setattr(data, "SCENE", 16)
    monkeypatch.setattr(data, "SCENE_SHORTEST", 20)
    shares = replace(PLAIN, real_lowlight=0.5, smallest_paired=0.8)
    batch = maker(splits[0], shares).make_scenes({Degradation.LOWLIGHT: 8}, 3)
    assert batch.inputs.shape == batch.targets.shape == (8, 3, 16, 16)
    assert batch.omega.tolist() == [[float(each is Degradation.LOWLIGHT) for each in ALL]] * 8
    assert (batch.inputs.mean(dim=(1, 2, 3)) < 0.6 * batch.targets.mean(dim=(1, 2, 3))).all()
    # A shrunk picture's pixels are means, of which a dark one has more steps than 8 bits hold.
    steps = (255 * batch.inputs).sub((255 * batch.inputs).round()).abs().amax(dim=(1, 2, 3)) > 0.01
    assert steps.tolist() == [True] * 4 + [False] * 4


def test_pairs_are_scaled_alike(splits):
    dark, bright = maker(splits[0]).low_light_pairs(5, 24, 0.5, torch.Generator().manual_seed(2))
    assert dark.shape == bright.shape == (5, 3, 24, 24)
    whole = maker(splits[0]).low_light_pairs(5, 48, 1.0, torch.Generator().manual_seed(2))
    for small, large in zip((dark, bright), whole, strict=True):
        torch.testing.assert_close(small, F.avg_pool2d(large, 2), atol=0.06, rtol=0)


def test_channels_of_dark_crops_are_swapped_alike(splits):
    stage = replace(STAGE, batch={Degradation.LOWLIGHT: 24})
    plain, swapped = (
        maker(splits[0], replace(PLAIN, real_lowlight=1, swapped=share)).make(stage, 2) for share in (0, 1)
    )
    found = set()
    for crops in zip(swapped.inputs, swapped.targets, plain.inputs, plain.targets, strict=True):
        dark, bright, dark_before, bright_before = crops
        orders = [
            order
            for order in itertools.permutations(range(3))
            if torch.equal(dark, dark_before[[*order]]) and torch.equal(bright, bright_before[[*order]])
        ]
        assert len(orders) == 1
        found |= {*orders}
    assert len(found) > 3


def test_a_short_scene_gives_no_frames_to_average(photo_folder, tmp_path):
    folder = copied(photo_folder, tmp_path)
    shutil.rmtree(folder / "frames")
    for number in range(25):
        write(folder / f"frames/short/{number:03}.png", np.zeros((40, 40, 3), np.uint8))
    training, held_out = load_photographs(folder, CPU)
    assert training.first_frames.tolist() == []
    assert held_out.first_frames.tolist() == [0]
    assert len(maker(training).make(STAGE, 1).inputs) == sum(STAGE.batch.values())


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda data: shutil.rmtree(data / "photos"), ["photos/ holds 0 images", "36 needed"]),
        (lambda data: [path.unlink() for path in (data / "photos").glob("00*")], ["holds 30 images"]),
        (lambda data: (data / "photos/007.png").write_bytes(b""), ["photos/007.png cannot be read"]),
        (lambda data: (data / "photos/007.png").write_text("no image"), ["photos/007.png cannot be read"]),
        (lambda data: truncate(data / "photos/007.png"), ["photos/007.png cannot be read"]),
        (
            lambda data: write(data / "photos/007.png", np.zeros((60, 30, 3), np.uint8)),
            ["photos/007.png is 30×60", "crops of 32 do not fit"],
        ),
        (
            lambda data: write(data / "photos/007.png", np.full((60, 60), 4000, np.uint16)),
            ["photos/007.png has mode I", "8 bits"],
        ),
        (lambda data: (data / "lol/high/5.png").unlink(), ["lol/low/5.png has no partner"]),
        (
            lambda data: write(data / "lol/high/5.png", np.zeros((60, 64, 3), np.uint8)),
            ["lol/low/5.png is 64×56", "lol/high/5.png is 64×60"],
        ),
        (
            lambda data: write(data / "frames/pan/004.png", np.zeros((60, 64, 3), np.uint8)),
            ["frames/pan/004.png is 64×60", "frames/pan/000.png is 64×56"],
        ),
    ],
)
def test_bad_data_is_named(photo_folder, tmp_path, spoil, words):
    folder = copied(photo_folder, tmp_path)
    spoil(folder)
    with pytest.raises(UsageError) as caught:
        load_photographs(folder, CPU, 32)
    for word in [str(folder), *words]:
        assert word in str(caught.value)


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-200])


def test_grey_and_transparent_photos_are_taken_as_colours(photo_folder, tmp_path):
    folder = copied(photo_folder, tmp_path)
    write(folder / "photos/007.png", np.full((40, 48), 70, np.uint8))
    write(folder / "photos/008.png", np.full((40, 48, 4), 90, np.uint8))
    training, _ = load_photographs(folder, CPU)
    found = images_of(training.photos)
    assert repr((40, 48)).encode() + bytes([70]) * (40 * 48 * 3) in found
    assert repr((40, 48)).encode() + bytes([90]) * (40 * 48 * 3) in found


def test_photos_are_turned_upright(photo_folder, tmp_path):
    folder = copied(photo_folder, tmp_path)
    path = folder / "photos/002.png"
    exif = Image.Exif()
    exif[0x0112] = 6
    with Image.open(path) as photo:
        photo.rotate(90, expand=True).save(path, exif=exif)
    (plain, _), (turned, _) = (load_photographs(each, CPU) for each in (photo_folder, folder))
    assert torch.equal(turned.photos.widths, plain.photos.widths)
    assert torch.equal(turned.photos.pixels, plain.photos.pixels)


# Batches


def same(first, second) -> bool:
    return all(
        torch.equal(getattr(first, name), getattr(second, name)) for name in ("inputs", "targets", "omega")
    )


def test_the_seed_decides_on_the_batch(splits):
    shares = DataShares(clean=0.2, other_prompt=0.2, two=0.2, dmix=0.5)
    batches = maker(splits[0], shares)
    first = batches.make(STAGE, 11)
    others = [batches.make(STAGE, seed) for seed in range(12, 16)]
    assert same(first, batches.make(STAGE, 11))
    assert same(first, maker(splits[0], shares).make(STAGE, 11))
    assert not any(same(first, other) for other in others)


def test_counts_and_omega_are_those_of_the_stage(splits):
    degradations = (Degradation.LOWLIGHT, Degradation.HAZE, Degradation.NOISE)
    stage = Stage(1.0, 32, {Degradation.NOISE: 3, Degradation.HAZE: 0, Degradation.LOWLIGHT: 2})
    photographs = splits[0]
    batch = maker(photographs, replace(PLAIN, real_lowlight=0.0), degradations).make(stage, 6)
    assert batch.inputs.shape == batch.targets.shape == (5, 3, 32, 32)
    assert batch.inputs.dtype == batch.targets.dtype == torch.float32
    # Columns follow the model's order, rows the stage's.
    assert batch.omega.tolist() == [[0.0, 0.0, 1.0]] * 3 + [[1.0, 0.0, 0.0]] * 2
    assert torch.all((batch.targets >= 0) & (batch.targets <= 1))
    change = batch.inputs - batch.targets
    assert torch.all(change[:3].abs().mean(dim=(1, 2, 3)) > 10 / 255)
    assert torch.all(change[:3].mean(dim=(1, 2, 3)).abs() < 0.02)
    assert torch.all(batch.inputs[3:].mean(dim=(1, 2, 3)) < 0.6 * batch.targets[3:].mean(dim=(1, 2, 3)))


def test_real_pairs_keep_crop_and_orientation(splits):
    stage = Stage(1.0, 32, {Degradation.LOWLIGHT: 20})
    batch = maker(splits[0], replace(PLAIN, real_lowlight=1.0)).make(stage, 8)
    high, low = (batch.targets * 255).round().int(), (batch.inputs * 255).round().int()
    assert torch.equal(low, high // 6)


def test_the_share_of_real_pairs_is_right_on_average(splits):
    stage = Stage(1.0, 32, {Degradation.LOWLIGHT: 3})
    batches = maker(splits[0], replace(PLAIN, real_lowlight=0.4))
    real = 0
    for seed in range(150):
        batch = batches.make(stage, seed)
        pair = (batch.targets * 255).round().int() // 6 == (batch.inputs * 255).round().int()
        real += int(pair.all(dim=(1, 2, 3)).sum())
    # 180 expected; three standard deviations of the random rounding are 15.
    assert 165 <= real <= 195


def solid_frames(folder: Path, scenes: dict[str, tuple[int, int, int]]) -> None:
    """Scenes of frames of one grey each: 40 + 6 times the number of the frame."""
    shutil.rmtree(folder / "frames")
    for name, (count, height, width) in scenes.items():
        for number in range(count):
            grey = np.full((height, width, 3), 40 + 6 * number, np.uint8)
            write(folder / f"frames/{name}/{number:03}.png", grey)


def averages_of(batches: BatchMaker) -> set[tuple[int, bool]]:
    """How many frames were averaged and whether in linear light, of what `solid_frames` shows."""
    degraded, sharp = batches.blurred_frames(400, 32, torch.Generator().manual_seed(9))
    for images in (degraded, sharp):
        assert torch.all(images.amax(dim=(1, 2, 3)) - images.amin(dim=(1, 2, 3)) < 1e-6)
    seen = set()
    for value, middle in zip(degraded[:, 0, 0, 0].tolist(), sharp[:, 0, 0, 0].tolist(), strict=True):
        number, rest = divmod(round(middle * 255) - 40, 6)
        assert rest == 0
        matches = []
        for count in range(7, 14):
            start = number - count // 2
            window = (40 + 6 * np.arange(start, start + count)) / 255
            for linear in (False, True):
                mean = (window**2.2).mean() ** (1 / 2.2) if linear else window.mean()
                if start >= 0 and start + count <= 34 - 18 and abs(mean - value) < 2e-6:
                    matches.append((count, linear))
        assert matches
        seen.update(matches)
    return seen


def test_the_target_of_averaged_frames_is_their_middle_one(photo_folder, tmp_path):
    folder = copied(photo_folder, tmp_path)
    # Places are drawn in the scene's own size: in one of another size they would lie across two frames.
    solid_frames(folder, {"a": (34, 32, 90), "b": (33, 90, 32), "c": (20, 64, 64)})
    training, _ = load_photographs(folder, CPU, 32)
    seen = averages_of(maker(training))
    assert {count for count, _ in seen} == {7, 9, 11, 13}
    assert {linear for _, linear in seen} == {False, True}


def test_averages_are_taken_in_the_light_that_the_recipe_says(photo_folder, tmp_path):
    folder = copied(photo_folder, tmp_path)
    solid_frames(folder, {"a": (34, 64, 64)})
    training, _ = load_photographs(folder, CPU, 32)
    plain = maker(training, replace(PLAIN, linear=0.0))
    # Of seven dark frames the two means may be one and the same; of thirteen they are not.
    assert {linear for count, linear in averages_of(plain) if count == 13} == {False}
    assert plain.ranges.motion.linear_chance == 0
    linear = maker(training, replace(PLAIN, linear=1.0))
    assert {linear for count, linear in averages_of(linear) if count == 13} == {True}


def test_frames_are_cut_where_they_move(photo_folder, tmp_path):
    folder = copied(photo_folder, tmp_path)
    shutil.rmtree(folder / "frames")
    for number in range(34):
        frame = np.full((40, 320, 3), 90, np.uint8)
        frame[:, :80] += np.uint8(2 * number)
        write(folder / f"frames/a/{number:03}.png", frame)
    training, _ = load_photographs(folder, CPU, 32)
    degraded, _ = maker(training).blurred_frames(200, 32, torch.Generator().manual_seed(4))
    moving = (degraded.amax(dim=(1, 2, 3)) > 90.5 / 255).float().mean().item()
    # One place in 3.6 shows what moves; one in at least one of four draws does with 1 - (1 - 1/3.6)^4.
    assert moving == pytest.approx(0.73, abs=0.1)


def of_one_grey(photo_folder: Path, tmp_path: Path) -> Photographs:
    """The training split, all of whose photos (but not its rooms) are of one grey."""
    folder = copied(photo_folder, tmp_path)
    for path in (folder / "photos").iterdir():
        write(path, np.full((64, 64, 3), 128, np.uint8))
    return load_photographs(folder, CPU, 32)[0]


def test_scenes_with_haze_stay_upright(photo_folder, monkeypatch):
    training, _ = load_photographs(photo_folder, CPU, 32)
    asked: dict[Degradation, set[bool]] = {}
    for degradation in (Degradation.HAZE, Degradation.RAIN):
        seen = asked.setdefault(degradation, set())
        batches = maker(training)
        crops = batches.clean_crops
        monkeypatch.setattr(
            batches,
            "clean_crops",
            lambda *args, upright, seen=seen, crops=crops, **more: (
                seen.add(upright) or crops(*args, upright=upright, **more)
            ),
        )
        batches.make(Stage(1.0, 32, {degradation: 2}), 1)
    assert asked == {Degradation.HAZE: {True}, Degradation.RAIN: {False}}


def test_scenes_with_haze_are_often_darker_than_other_photos(photo_folder, tmp_path):
    batches = maker(of_one_grey(photo_folder, tmp_path), replace(PLAIN, jitter=1.0))
    darkest = {}
    for degradation in (Degradation.HAZE, Degradation.NOISE):
        target = batches.make(Stage(1.0, 32, {degradation: 200}), 5).targets
        darkest[degradation] = target.mean(dim=(1, 2, 3)).min().item()
    # Exponents up to 1.35, and up to 2.3; gains hardly change the mean of the three channels.
    assert darkest[Degradation.NOISE] == pytest.approx(0.9 * 0.502**1.35, abs=0.03)
    assert darkest[Degradation.HAZE] == pytest.approx(0.9 * 0.502**2.3, abs=0.03)


def test_what_is_to_be_dark_keeps_its_tones(photo_folder, tmp_path):
    """Nobody can see in the dark how bright and of which tint a changed photo was."""
    batches = maker(of_one_grey(photo_folder, tmp_path), replace(PLAIN, jitter=1.0, real_lowlight=0.0))
    targets = batches.make(Stage(1.0, 32, {Degradation.LOWLIGHT: 20}), 5).targets
    torch.testing.assert_close(targets, torch.full_like(targets, 128 / 255))


def test_hazy_crops_alone_are_collages(photo_folder, tmp_path):
    folder = copied(photo_folder, tmp_path)
    shutil.rmtree(folder / "lol")
    for number, path in enumerate(sorted((folder / "photos").iterdir())):
        write(path, np.full((64, 64, 3), 60 if number % 2 else 190, np.uint8))
    training, _ = load_photographs(folder, CPU, 32)
    mixed = {}
    for degradation in (Degradation.HAZE, Degradation.RAIN):
        batches = maker(training, replace(PLAIN, jitter=0.0, collage=0.5))
        target = batches.make(Stage(1.0, 32, {degradation: 200}), 3).targets
        assert len(target) == 200
        mixed[degradation] = (target.amax(dim=(1, 2, 3)) - target.amin(dim=(1, 2, 3)) > 0.3).float().mean()
    # Half of the collages are of two photos of one grey, and a few of the others show hardly any piece.
    assert mixed[Degradation.HAZE] == pytest.approx(0.22, abs=0.07)
    assert mixed[Degradation.RAIN] == 0


def test_crops_are_recoloured_where_the_recipe_says(photo_folder, tmp_path):
    shares = replace(PLAIN, jitter=0.0, recoloured={Degradation.RAIN: 0.5})
    batches = maker(of_one_grey(photo_folder, tmp_path), shares)
    coloured = {}
    for degradation in (Degradation.RAIN, Degradation.NOISE):
        target = batches.make(Stage(1.0, 32, {degradation: 200}), 4).targets[:, :, 0, 0]
        coloured[degradation] = (target.amax(dim=1) - target.amin(dim=1) > 0.02).float().mean()
    assert coloured[Degradation.RAIN] == pytest.approx(0.5, abs=0.1)
    assert coloured[Degradation.NOISE] == 0


def test_built_rooms_are_their_share_of_the_hazy_crops_alone(photo_folder, tmp_path):
    batches = maker(of_one_grey(photo_folder, tmp_path), replace(PLAIN, built=0.5))
    built = {Degradation.HAZE: 0, Degradation.RAIN: 0}
    for seed in range(20):
        for degradation in built:
            batch = batches.make(Stage(1.0, 32, {degradation: 4}), seed)
            assert batch.inputs.shape == batch.targets.shape == (4, 3, 32, 32)
            assert float(batch.targets.min()) >= 0
            assert float(batch.targets.max()) <= 1
            built[degradation] += int((batch.targets[:, 0].std(dim=(1, 2)) > 1e-3).sum())
    assert built == {Degradation.HAZE: 40, Degradation.RAIN: 0}


def test_rooms_are_their_share_of_the_hazy_crops_alone(photo_folder, tmp_path):
    batches = maker(of_one_grey(photo_folder, tmp_path), replace(PLAIN, rooms=0.4))
    rooms = {Degradation.HAZE: 0, Degradation.RAIN: 0}
    for seed in range(60):
        for degradation in rooms:
            target = batches.make(Stage(1.0, 32, {degradation: 3}), seed).targets
            rooms[degradation] += int((target[:, 0].std(dim=(1, 2)) > 1e-3).sum())
    # 72 of 180 expected; three standard deviations of the random rounding are 9.
    assert 63 <= rooms[Degradation.HAZE] <= 81
    assert rooms[Degradation.RAIN] == 0


def with_slices(photographs: Photographs) -> Photographs:
    rng = np.random.default_rng(12)
    return replace(photographs, slices=PixelBank([rng.integers(0, 200, (80, 90, 1)).astype(np.int16)], CPU))


def test_ct_is_its_share_of_the_noisy_crops_and_grey(splits):
    stage = Stage(1.0, 32, {Degradation.NOISE: 3, Degradation.RAIN: 2})
    batches = maker(with_slices(splits[0]), replace(PLAIN, ct=0.4))
    grey = 0
    for seed in range(100):
        batch = batches.make(stage, seed)
        assert batch.inputs.shape == batch.targets.shape == (5, 3, 32, 32)
        of_ct = (batch.inputs == batch.inputs[:, :1]).all(dim=(1, 2, 3))
        assert torch.equal(of_ct, (batch.targets == batch.targets[:, :1]).all(dim=(1, 2, 3)))
        assert not of_ct[3:].any()
        assert torch.all(batch.omega[of_ct] == torch.eye(len(ALL))[ALL.index(Degradation.NOISE)])
        grey += int(of_ct.sum())
    # 120 expected; three standard deviations of the random rounding are 12.
    assert 108 <= grey <= 132


def test_without_a_share_or_without_slices_ct_changes_nothing(splits):
    plain = maker(splits[0]).make(STAGE, 17)
    assert same(plain, maker(with_slices(splits[0])).make(STAGE, 17))
    assert same(plain, maker(splits[0], replace(PLAIN, ct=0.5)).make(STAGE, 17))


def test_ct_lies_beside_the_photos_or_in_a_folder_of_its_own(photo_folder, tmp_path):
    folder = copied(photo_folder, tmp_path)
    for place, level in (("data/ct/a", 10.0), ("else/a", 20.0)):
        for number in range(6):
            save(tmp_path / place / f"{number}", scan(np.full((40, 40), level), instance=number + 1))
    for ct, level in ((None, 10), (tmp_path / "else", 20)):
        training, held_out = load_photographs(folder, CPU, 32, ct)
        assert [len(training.slices), len(held_out.slices)] == [1, 3]
        assert set(training.slices.pixels.unique().tolist()) == {level}
    assert not len(load_photographs(photo_folder, CPU)[0].slices)


@pytest.mark.parametrize(("scale", "source"), [(1.0, 32), (0.8, 40), (0.5, 64), (0.25, 100)])
def test_photos_are_scaled_down_but_never_beyond_their_side(splits, scale, source):
    """On a ramp of one level a pixel, a crop's extent shows in its range; 100 pixels is the shortest side."""
    ramp = np.broadcast_to(np.arange(200, dtype=np.uint8)[None, :, None], (100, 200, 3))
    photographs = replace(splits[0], photos=PixelBank([ramp, ramp], CPU))
    crops = maker(photographs, replace(PLAIN, jitter=0.0)).clean_crops(
        8, 32, scale, torch.Generator().manual_seed(10)
    )
    assert crops.shape == (8, 3, 32, 32)
    extent = (crops.amax(dim=(1, 2, 3)) - crops.amin(dim=(1, 2, 3))) * 255
    # From the middle of the first of 32 pixels to that of the last; at the ends the filter is one-sided.
    expected = torch.full((8,), 31 * source / 32)
    torch.testing.assert_close(extent, expected, rtol=0, atol=0.01 if source == 32 else 1.0)


def test_jitter_changes_its_share_of_photos(splits):
    drawn = {}
    for share in (0.0, 0.3):
        batches = maker(splits[0], replace(PLAIN, jitter=share))
        drawn[share] = batches.clean_crops(300, 32, 1.0, torch.Generator().manual_seed(11))
        assert torch.all((drawn[share] >= 0) & (drawn[share] <= 1))
    changed = (drawn[0.0] - drawn[0.3]).abs().amax(dim=(1, 2, 3)) > 1e-6
    assert 65 <= changed.sum() <= 115


# Shares: clean, wrongly prompted, doubly degraded, mixed


def own(stage: Stage) -> torch.Tensor:
    """The one-hot omega that each crop of a stage begins with."""
    rows = [ALL.index(kind) for kind, count in stage.batch.items() for _ in range(count)]
    return torch.eye(len(ALL))[rows]


def test_clean_crops_come_under_another_prompt(splits):
    batch = maker(splits[0], replace(PLAIN, clean=1.0)).make(STAGE, 12)
    plain = maker(splits[0]).make(STAGE, 12)
    assert torch.equal(batch.inputs, batch.targets)
    assert torch.equal(batch.targets, plain.targets)
    assert torch.all(batch.omega.sum(1) == 1)
    assert torch.all((batch.omega * own(STAGE)).sum(1) == 0)
    assert torch.all(batch.omega[:, ALL.index(Degradation.LOWLIGHT)] == 0)


def test_a_wrong_prompt_changes_nothing(splits):
    batch = maker(splits[0], replace(PLAIN, other_prompt=1.0)).make(STAGE, 13)
    plain = maker(splits[0]).make(STAGE, 13)
    assert torch.equal(batch.inputs, batch.targets)
    assert torch.equal(batch.inputs, plain.inputs)
    assert torch.all(batch.omega.sum(1) == 1)
    assert torch.all((batch.omega * own(STAGE)).sum(1) == 0)
    assert torch.all(batch.omega[:, ALL.index(Degradation.LOWLIGHT)] == 0)


def test_every_wrong_prompt_is_drawn(splits):
    batches = maker(splits[0], replace(PLAIN, other_prompt=1.0))
    stage = Stage(1.0, 32, {Degradation.RAIN: 30, Degradation.LOWLIGHT: 30})
    omega = batches.make(stage, 14).omega
    assert (omega[:30].sum(0) > 0).tolist() == [True, False, True, True, False]
    assert (omega[30:].sum(0) > 0).tolist() == [True, True, True, True, False]


def test_shares_hold_on_average(splits):
    batches = maker(splits[0], DataShares(clean=0.2, other_prompt=0.3))
    stage = Stage(1.0, 32, {Degradation.NOISE: 30, Degradation.LOWLIGHT: 10})
    clean = other = 0
    for seed in range(20):
        batch = batches.make(stage, seed)
        plain = maker(splits[0]).make(stage, seed)
        asked = (batch.inputs == batch.targets).all(dim=(1, 2, 3))
        kept = (batch.inputs == plain.inputs).all(dim=(1, 2, 3))
        clean += int((asked & ~kept).sum())
        other += int((asked & kept).sum())
    # Of 800 crops 160 and 240 are expected; three standard deviations are 34 and 39.
    assert 126 <= clean <= 194
    assert 201 <= other <= 279


@pytest.mark.parametrize("degradations", [(Degradation.NOISE,), (Degradation.LOWLIGHT, Degradation.NOISE)])
def test_without_a_wrong_prompt_clean_crops_come_under_their_own(splits, degradations):
    stage = Stage(1.0, 32, {Degradation.NOISE: 40})
    shared = maker(splits[0], DataShares(clean=0.5, other_prompt=0.5), degradations).make(stage, 15)
    plain = maker(splits[0], PLAIN, degradations).make(stage, 15)
    assert torch.equal(shared.omega, plain.omega)
    assert torch.equal(shared.targets, plain.targets)
    clean = (shared.inputs == shared.targets).flatten(1).all(1)
    assert 10 <= clean.sum() <= 30
    assert torch.equal(shared.inputs[~clean], plain.inputs[~clean])


def test_of_low_light_alone_no_crop_is_clean(splits):
    alone, stage = (Degradation.LOWLIGHT,), Stage(1.0, 32, {Degradation.LOWLIGHT: 6})
    shared = maker(splits[0], DataShares(clean=0.5, other_prompt=0.5), alone).make(stage, 15)
    assert same(shared, maker(splits[0], PLAIN, alone).make(stage, 15))


def test_two_degradations_are_noise_on_top_and_both_in_omega(splits):
    batch = maker(splits[0], replace(PLAIN, two=1.0)).make(STAGE, 16)
    plain = maker(splits[0]).make(STAGE, 16)
    noise = torch.eye(len(ALL))[ALL.index(Degradation.NOISE)]
    assert torch.equal(batch.omega, (own(STAGE) + noise) / 2)
    assert torch.equal(batch.targets, plain.targets)
    change = batch.inputs - plain.inputs
    noisy = STAGE.batch[Degradation.NOISE]
    assert torch.all(change[:noisy] == 0)
    spread = change[noisy:].std(dim=(1, 2, 3)) * 255
    assert torch.all((spread > 5) & (spread < 100))


def test_two_needs_a_model_that_knows_noise(splits):
    with pytest.raises(UsageError, match=r"two is 0\.5"):
        maker(splits[0], replace(PLAIN, two=0.5), (Degradation.RAIN, Degradation.HAZE))


def test_the_share_of_mixed_batches(splits):
    batches = maker(splits[0], replace(PLAIN, dmix=0.4))
    stage = Stage(1.0, 16, dict.fromkeys((Degradation.NOISE, Degradation.LOWLIGHT), 3))
    mixed = 0
    for seed in range(100):
        omega = batches.make(stage, seed).omega
        assert torch.all(omega.sum(1) == 1)
        assert set(omega.unique().tolist()) <= {0.0, 0.5, 1.0}
        mixed += bool((omega == 0.5).any())
    # A permutation that leaves every kind in place (1 in 20) does not show: 38 expected, deviation 5.
    assert 24 <= mixed <= 52


def test_moving_photos_are_their_share_of_the_blurred_crops_that_are_not_real(splits, monkeypatch):
    def moved_far(clean, ranges, generator):
        return torch.full_like(clean, 2.0), clean

    monkeypatch.setattr(data, "move_and_covariance", moved_far)
    batches = maker(splits[0], replace(PLAIN, real_blur=0.25, moving=0.4))
    moved = {Degradation.BLUR: 0, Degradation.RAIN: 0}
    for seed in range(60):
        for degradation in moved:
            batch = batches.make(Stage(1.0, 32, {degradation: 4}), seed)
            assert len(batch.inputs) == 4
            moved[degradation] += int((batch.inputs == 2).all(dim=3).all(dim=2).all(dim=1).sum())
    # 72 of 240 expected: 0.4 of the three that are left of each four.
    assert 63 <= moved[Degradation.BLUR] <= 81
    assert moved[Degradation.RAIN] == 0


def blurred(splits, seeds: int = 20, **shares: float):
    """Batches of four synthetically blurred crops of 32 pixels."""
    batches = maker(splits[0], replace(PLAIN, real_blur=0.0, jitter=0.0, smallest_scale=1.0, **shares))
    return [batches.make(Stage(1.0, 32, {Degradation.BLUR: 4}), seed) for seed in range(seeds)]


def test_stills_are_their_share_of_the_photos_that_are_blurred(splits, monkeypatch):
    taken = []

    def noted(self, count, size, scale, generator, **others):
        taken.append((count, others["bank"] is self.photographs.frames))
        return torch.rand(count, 3, size, size)

    monkeypatch.setattr(BatchMaker, "clean_crops", noted)
    blurred(splits, 60, stills=0.25)
    assert sum(count for count, _ in taken) == 240
    assert sum(count for count, still in taken if still) == 60


def test_what_lies_around_a_crop_moves_into_it(splits, monkeypatch):
    # Each blurred pixel is what was 6 to the left, which a mirrored edge would not be.
    monkeypatch.setattr(data, "blur_and_covariance", lambda clean, *_: (clean.roll(6, dims=-1), clean))
    cut = []

    def noted(self, count, size, *_, **others):
        cut.append(torch.rand(count, 3, size, size))
        return cut[-1]

    monkeypatch.setattr(BatchMaker, "clean_crops", noted)
    for batch, whole in zip(blurred(splits, 3, margin=8), cut, strict=True):
        assert whole.shape[-2:] == (48, 48)
        assert torch.equal(batch.targets, whole[..., 8:40, 8:40])
        assert torch.equal(batch.inputs, whole[..., 8:40, 2:34])
        assert torch.equal(batch.covariance, whole[..., 8:40, 8:40])


def test_how_far_light_has_spread_is_known_of_what_is_blurred_here(splits):
    stage = Stage(1.0, 32, {Degradation.NOISE: 2, Degradation.BLUR: 8})
    batch = maker(splits[0], replace(PLAIN, real_blur=0.5, moving=0.5)).make(stage, 18)
    known = batch.covariance.isfinite()
    # Of noise nothing is told, nor of real frames; moving cameras and kernels are.
    assert known.flatten(1).all(1).tolist() == [False] * 6 + [True] * 4
    assert not known[:6].any()
    assert torch.all(batch.covariance[6:, :2] >= -1e-3)
    assert torch.all(batch.covariance[6:, :2].mean(dim=(1, 2, 3)) > 0.1)
    assert maker(splits[0]).make(Stage(1.0, 32, {Degradation.NOISE: 2}), 18).covariance is None


def test_clean_crops_have_spread_no_light(splits):
    stage = Stage(1.0, 32, {Degradation.BLUR: 12})
    shares = replace(PLAIN, real_blur=0.0, clean=0.5)
    batch = maker(splits[0], shares, (Degradation.BLUR,)).make(stage, 19)
    clean = (batch.inputs == batch.targets).flatten(1).all(1)
    assert 2 <= clean.sum() <= 10
    assert torch.equal((batch.covariance == 0).flatten(1).all(1), clean)


def test_crops_with_detail_are_chosen(splits):
    def detail(places: int) -> float:
        targets = torch.cat([batch.targets for batch in blurred(splits, places=places)])
        return float(targets.diff(dim=-1).abs().mean() + targets.diff(dim=-2).abs().mean())

    assert detail(6) > 1.01 * detail(1)


def test_of_one_image_the_most_detailed_place_is_taken():
    image = np.full((32, 96, 3), 90, np.uint8)
    image[:, 64:] = np.random.default_rng(1).integers(0, 255, (32, 32, 3))
    bank = PixelBank([image], CPU)
    place = bank.place(torch.zeros(60, dtype=torch.long), 32, torch.Generator().manual_seed(1))
    chosen = data._most_detailed(bank, place, 32, 20)
    assert len(chosen.left) == 3
    groups = place.left.view(3, 20)
    assert torch.equal(chosen.left, groups.amax(dim=1))
    assert (chosen.left > groups.float().mean(dim=1)).all()


def test_grain_lies_on_what_is_blurred_alone(splits):
    plain, grainy = blurred(splits), blurred(splits, grain=20.0)
    spread = []
    for before, after in zip(plain, grainy, strict=True):
        assert torch.equal(before.targets, after.targets)
        spread.append((after.inputs - before.inputs).std(dim=(1, 2, 3)) * 255)
    # Evenly from 0 to 20; some of the brightest and darkest is clipped.
    assert 7 < float(torch.cat(spread).mean()) < 11
    assert float(torch.cat(spread).max()) <= 20.5


def test_kernels_blur_in_linear_light_by_their_share(splits, monkeypatch):
    seen = []
    monkeypatch.setattr(
        data, "blur_and_covariance", lambda clean, ranges, generator: seen.append(ranges) or (clean, clean)
    )
    blurred(splits, 1, kernels=0.25, stepped=0.5)
    assert (seen[0].linear_chance, seen[0].stepped_chance) == (0.25, 0.5)
