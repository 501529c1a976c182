"""Chains of examples: labels that say what was done, alike handling of all links, and seeds."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from photographs import write_photographs
from PIL import Image

from pipcli.degradations import Degradation
from pipcli.synthesis import SynthesisRanges
from pipcli.training import classifier_data
from pipcli.training.bank import PixelBank
from pipcli.training.classifier_data import FAINT, Example, ExampleMaker, ExampleShares
from pipcli.training.data import Photographs, load_photographs
from pipcli.training.pictures import as_jpeg, whole

SHARES = ExampleShares(sides=(32, 48), smallest_scale=0.6)
KINDS = tuple(Degradation)


@pytest.fixture(scope="module")
def photographs(tmp_path_factory) -> Photographs:
    folder: Path = tmp_path_factory.mktemp("data")
    write_photographs(folder)
    return load_photographs(folder, torch.device("cpu"))[0]


def maker(photographs: Photographs, shares: ExampleShares = SHARES, kinds=KINDS) -> ExampleMaker:
    made = ExampleMaker(photographs, kinds, shares, SynthesisRanges())
    made.seed(5)
    return made


def psnr(first: Example, second: Example) -> float:
    difference = np.asarray(first.picture, float) - np.asarray(second.picture, float)
    return 10 * math.log10(255**2 / max(1e-9, np.square(difference).mean()))


def test_a_chain_starts_clean_and_adds_one_degradation_a_link(photographs):
    make = maker(photographs, replace(SHARES, two=1.0))
    lengths, kinds = set(), set()
    for _ in range(60):
        links = make.chain()
        lengths.add(len(links))
        assert links[0].present == (0.0,) * 5
        assert len({link.picture.size for link in links}) == 1
        for before, after in itertools.pairwise(links):
            (new,) = (
                kind
                for kind, was, now in zip(KINDS, before.present, after.present, strict=True)
                if now != was and not (math.isnan(now) and math.isnan(was))
            )
            kinds.add(new)
            visible = psnr(before, after) < FAINT[new]
            assert (
                after.present[KINDS.index(new)] == 1
                if visible
                else math.isnan(after.present[KINDS.index(new)])
            )
    assert kinds == set(KINDS)
    assert lengths == {2, 3}


def test_blur_leaves_no_part_sharp(photographs):
    partly = SynthesisRanges()
    partly = replace(
        partly,
        blur=replace(partly.blur, varying_chance=1.0, still_chance=1.0),
        motion=replace(partly.motion, apart_chance=1.0, still_chance=1.0),
    )
    grain = np.random.default_rng(3).integers(0, 256, (96, 96, 3), dtype=np.uint8)
    for moving in (0.0, 1.0):
        make = ExampleMaker(photographs, KINDS, replace(SHARES, moving=moving), partly)
        make.seed(2)
        for _ in range(8):
            blurred, _ = make.degraded(Image.fromarray(grain), Degradation.BLUR)
            changed = np.abs(np.asarray(blurred, float) - grain).mean(axis=2)
            tiles = changed.reshape(6, 16, 6, 16).mean(axis=(1, 3))
            assert tiles.min() > 5, moving


def test_sigma_is_that_of_the_pixels_where_nothing_came_after(photographs):
    make = maker(photographs, replace(SHARES, handled=0.0, two=0.0))
    measured = 0
    for _ in range(150):
        clean, degraded = make.chain()
        noisy = degraded.present[0] == 1
        assert math.isfinite(degraded.sigma) == (degraded.present[0] != 0)
        if noisy and degraded.sigma < 12:
            difference = np.asarray(degraded.picture, float) - np.asarray(clean.picture, float)
            assert difference.std() == pytest.approx(degraded.sigma, rel=0.15, abs=0.5)
            measured += 1
    assert measured >= 3


def test_sigma_is_unknown_after_resizing_or_compression(photographs):
    make = maker(photographs, replace(SHARES, handled=1.0, two=0.5))
    assert all(math.isnan(link.sigma) for _ in range(30) for link in make.chain())


def test_real_pairs_and_frames_are_used(photographs):
    real = replace(SHARES, real_lowlight=1.0, real_blur=1.0, handled=0.0, two=0.0, smallest_scale=1.0)
    dark = maker(photographs, real, (Degradation.LOWLIGHT,))
    high, low = dark.chain()
    # The fixture's low images are a sixth of their partners.
    assert np.asarray(low.picture).mean() == pytest.approx(np.asarray(high.picture).mean() / 6, rel=0.1)
    blurred = maker(photographs, real, (Degradation.BLUR,))
    sharp, mean = blurred.chain()
    assert np.asarray(mean.picture, float).std() < np.asarray(sharp.picture, float).std()


def test_finished_frames_have_other_tones_and_both_links_the_same(photographs):
    real = replace(SHARES, real_blur=1.0, handled=0.0, two=0.0, finished=0.0, smallest_scale=1.0)
    brightness: dict[float, list[float]] = {}
    for finished in (0.0, 1.0):
        make = maker(photographs, replace(real, finished=finished), (Degradation.BLUR,))
        pairs = [[np.asarray(link.picture).mean() for link in make.chain()] for _ in range(40)]
        for sharp, blurred in pairs:
            assert blurred == pytest.approx(sharp, rel=0.12)
        brightness[finished] = [sharp for sharp, _ in pairs]
    assert max(brightness[1.0]) > 1.15 * max(brightness[0.0])
    assert min(brightness[1.0]) < min(brightness[0.0])


def test_some_finished_windows_are_clipped_to_white(photographs):
    grey = replace(photographs, photos=PixelBank([np.full((56, 64, 3), 180, np.uint8)], torch.device("cpu")))
    make = maker(grey, replace(SHARES, finished=1.0))
    white = [np.asarray(make.clean(rooms=0.0)).min() > 250 for _ in range(60)]
    assert 2 <= sum(white) <= 30


def test_scenes_for_haze_are_often_rooms_and_dark(photographs):
    # A black room is told from every photo.
    rooms = replace(photographs, high=PixelBank([np.zeros((56, 64, 3), np.uint8)], torch.device("cpu")))
    fair = replace(SHARES, rooms=0.4, built=0.0, handled=0.0, two=0.0, finished=0.0)
    hazy = maker(rooms, fair, (Degradation.HAZE,))
    black = [not np.asarray(hazy.chain()[0].picture).any() for _ in range(200)]
    assert 0.3 < np.mean(black) < 0.5
    grey = Image.new("RGB", (40, 40), (128, 128, 128))
    values = [np.asarray(hazy.darkened(grey)).mean() for _ in range(60)]
    assert min(values) < 70 < 130 < max(values)


def test_built_rooms_are_their_share_of_the_haze(photographs, monkeypatch):
    hazy = maker(photographs, replace(SHARES, built=0.5, handled=0.0, two=0.0), (Degradation.HAZE,))
    built_room, built = hazy.built_room, []
    monkeypatch.setattr(hazy, "built_room", lambda: built.append(built_room()) or built[-1])
    for _ in range(60):
        hazy.chain()
    assert 20 <= len(built) <= 40
    assert all(clean.size == degraded.size for clean, degraded in built)
    # Haze brightens what is dark and evens out what is not.
    deviations = np.array([[np.asarray(each, float).std() for each in pair] for pair in built])
    assert (deviations[:, 1] < deviations[:, 0]).mean() > 0.8


def test_light_rain_leaves_most_of_the_picture_alone(photographs):
    grey = Image.new("RGB", (96, 96), (90, 90, 90))
    touched = {}
    for share in (0.0, 1.0):
        rainy = maker(photographs, replace(SHARES, light_rain=share))
        wet = [np.asarray(rainy.degraded(grey, Degradation.RAIN)[0]) for _ in range(40)]
        touched[share] = np.median([(each > 100).mean() for each in wet])
    assert 0 < touched[1.0] < 0.5 * touched[0.0]


def test_a_moving_camera_is_its_share_of_the_blur_without_frames(photographs, monkeypatch):
    shown = torch.full((1, 3, 4, 4), 0.25)
    monkeypatch.setattr(classifier_data, "degrade_motion", lambda clean, ranges, generator: shown)
    clean = Image.new("RGB", (40, 40))
    for share, expected in ((0.0, 0), (1.0, 20), (0.5, 10)):
        make = maker(photographs, replace(SHARES, moving=share))
        made = [make.degraded(clean, Degradation.BLUR)[0].size for _ in range(20)]
        assert made.count((4, 4)) == pytest.approx(expected, abs=5 * (0 < share < 1))


def test_some_pictures_are_stretched_as_upright_ones_are_when_brought_to_one_size(photographs):
    make = maker(photographs, replace(SHARES, sides=(48, 48), handled=1.0))
    across, down = zip(*(make.chain()[0].picture.size for _ in range(240)), strict=True)
    stretches = np.abs(np.log(np.divide(across, down)))
    # Without stretched ones no more than 0.2; what would be smaller than the shortest side is not stretched.
    assert 0.4 < stretches.max() < 0.85
    assert np.mean(stretches > 0.25) > 0.01


def test_whole_frames_average_what_lies_in_the_bank(photographs):
    make = maker(photographs)
    make.host.seed(0)
    start = int(photographs.first_frames[2])
    sharp, blurred = make.blurred_frames(start)
    frames = [np.asarray(whole(photographs.frames, start + n), float) for n in range(13)]
    assert any(np.array_equal(np.asarray(sharp), frame) for frame in frames)
    means = [np.mean(frames[:count], axis=0) for count in range(7, 14)]
    lights = [
        255 * np.mean([(f / 255) ** 2.2 for f in frames[:count]], axis=0) ** (1 / 2.2)
        for count in range(7, 14)
    ]
    assert min(np.abs(np.asarray(blurred) - mean).max() for mean in means + lights) <= 0.6


def test_a_faint_degradation_has_no_label(photographs):
    make = maker(photographs)
    clean = whole(photographs.photos, 0)
    labelled = Example(clean, (1.0, 0.0, 0.0, 0.0, 0.0))
    assert math.isnan(make.visible(clean, labelled, Degradation.NOISE)[0])
    dark = Example(clean.point(lambda value: value // 4), labelled.present)
    assert make.visible(clean, dark, Degradation.NOISE) == labelled.present


def test_a_batch_is_decided_by_its_seed(photographs):
    make = maker(photographs)
    first, again, other = (make.batch(6, 32, 2, seed) for seed in (1, 1, 2))
    assert first.crops.shape[1:] == (2, 3, 32, 32)
    assert first.overviews.shape[1:] == (3, 32, 32)
    assert len(first.crops) == len(first.overviews) == len(first.present) == len(first.sigma) >= 6
    assert 0 <= first.crops.min() <= first.crops.max() <= 1
    assert torch.equal(first.crops, again.crops)
    assert torch.equal(first.present.nan_to_num(9), again.present.nan_to_num(9))
    assert first.crops.shape != other.crops.shape or not torch.equal(first.crops, other.crops)


def test_only_known_degradations_are_made(photographs):
    make = maker(photographs, replace(SHARES, two=1.0), (Degradation.HAZE, Degradation.NOISE))
    labels = [link.present for _ in range(20) for link in make.chain()]
    assert {len(present) for present in labels} == {2}


def test_chains_begin_as_often_as_is_asked(photographs):
    make = maker(photographs, replace(SHARES, two=0.0, handled=0.0, first={Degradation.NOISE: 1e6}))
    for _ in range(20):
        present = dict(zip(KINDS, make.chain()[-1].present, strict=True))
        assert present.pop(Degradation.NOISE) != 0
        assert set(present.values()) == {0.0}


def test_jpeg_leaves_its_traces(photographs):
    picture = whole(photographs.photos, 0)
    fine, coarse = (np.asarray(as_jpeg(picture, quality, 0), float) for quality in (97, 30))
    original = np.asarray(picture, float)
    assert 0 < np.abs(fine - original).mean() < np.abs(coarse - original).mean()


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        ({"sides": (16, 40)}, "sides is"),
        ({"sides": (64, 40)}, "sides is"),
        ({"smallest_scale": 0.0}, "smallest_scale is 0.0"),
        ({"handled": 1.5}, "handled is 1.5"),
        ({"first": {Degradation.RAIN: 0.0}}, "first.rain is 0.0"),
    ],
)
def test_wrong_shares_are_refused(wrong, why):
    with pytest.raises(ValueError, match=why):
        ExampleShares(**wrong)


@pytest.mark.parametrize(("sides", "count", "candidates"), [((40, 40), 4, 6), ((90, 90), 4, 9)])
def test_crops_are_chosen_of_as_many_as_in_use(photographs, monkeypatch, sides, count, candidates):
    """A picture of 90×90 has nine crops of 32 in use; one of 40×40 four, fewer than are drawn at least."""
    choices = []
    choose_crops = classifier_data.choose_crops

    def noted(crops, number):
        choices.append((len(crops), number))
        return choose_crops(crops, number)

    monkeypatch.setattr(classifier_data, "choose_crops", noted)
    make = maker(photographs, replace(SHARES, sides=sides, handled=0.0))
    batch = make.batch(3, 32, count, seed=1)
    assert choices == [(candidates, count)] * len(batch.crops)
