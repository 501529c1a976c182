"""A classifier on benchmarks: figures by hand from answers that are set, on small sets made for the test."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
from PIL import Image as PillowImage

from pipcli.degradations import Degradation
from pipcli.errors import UsageError
from pipcli.evaluation.classification import (
    ONE_SIZE,
    SIGMAS,
    TOP1_SIGMAS,
    Judged,
    answers,
    calibration_error,
    classify_sets,
    made_alike,
)
from pipcli.images import Image
from pipcli.inference.diagnosis import Diagnosis

NOISE, RAIN, LOWLIGHT = Degradation.NOISE, Degradation.RAIN, Degradation.LOWLIGHT


class Spread:
    """Stands in for a Diagnoser: noise where neighbours differ much, low light where it is dark."""

    def diagnose(self, image: Image) -> Diagnosis:
        pixels = image.pixels.astype(float)
        sigma = float(np.diff(pixels, axis=1).std() / 2**0.5)
        found = dict.fromkeys(Degradation, 0.1)
        found[NOISE] = 0.9 if sigma > 2.5 else 0.2
        found[LOWLIGHT] = 0.8 if pixels.mean() < 60 else 0.1
        return Diagnosis(found, sigma)


@pytest.fixture
def data(tmp_path):
    """Three flat images in CBSD68, two dark pairs in LOL."""
    for number in range(3):
        save(tmp_path / f"CBSD68/{number}.png", np.full((40, 60, 3), 100 + number, np.uint8))
    for number in range(2):
        save(tmp_path / f"LOL/eval15/high/{number}.png", np.full((40, 60, 3), 120 + number, np.uint8))
        # The second one is not dark enough for the stand-in.
        save(tmp_path / f"LOL/eval15/low/{number}.png", np.full((40, 60, 3), 20 + 60 * number, np.uint8))
    return tmp_path


def save(path, pixels):
    path.parent.mkdir(parents=True, exist_ok=True)
    PillowImage.fromarray(pixels).save(path)


def test_errors_clean_images_and_levels(data):
    named = []
    result = classify_sets(Spread(), [data], None, named.append)
    assert named == ["0", "1", "2", "0", "1"]
    assert result.missing == ("Rain100L", "SOTS-indoor", "GoPro-like")
    assert {(each.dataset, each.kind, each.alike) for each in result.sets} == {
        (name, label, alike)
        for name, kind in (("CBSD68", NOISE), ("LOL", LOWLIGHT))
        for label in (kind, None)
        for alike in (False, True)
    }
    as_is = {(each.dataset, each.kind): each for each in result.sets if not each.alike}
    noisy = as_is["CBSD68", NOISE]
    assert (noisy.images, noisy.top1_errors, noisy.right) == (3 * len(TOP1_SIGMAS), 0, 9)
    dark = as_is["LOL", LOWLIGHT]
    assert (dark.images, dark.top1_errors, dark.right) == (2, 1, 1)
    assert (as_is["LOL", None].top1_errors, as_is["LOL", None].right) == (None, 2)
    assert tuple(level.sigma for level in result.levels) == SIGMAS
    for level in result.levels:
        assert level.images == 3
        # Truncation to 8 bits adds a little to small sigmas, clipping takes from large ones.
        assert level.median == pytest.approx(level.sigma, rel=0.1)
        assert level.error == pytest.approx(abs(level.median / level.sigma - 1), abs=0.02)


def test_a_limit_takes_the_first_pairs(data):
    result = classify_sets(Spread(), [data], 1, lambda name: None)
    assert {each.name for each in result.judged} == {"0"}


def test_a_true_image_of_several_inputs_counts_once(tmp_path):
    for name in ("1400_1", "1400_2", "1401_1"):
        save(tmp_path / f"SOTS-indoor/hazy/{name}.png", np.full((40, 60, 3), 200, np.uint8))
    for name in ("1400", "1401"):
        save(tmp_path / f"SOTS-indoor/GT/{name}.png", np.full((40, 60, 3), int(name) - 1300, np.uint8))
    result = classify_sets(Spread(), [tmp_path], None, lambda name: None)
    images = {(each.kind, each.alike): each.images for each in result.sets}
    haze = Degradation.HAZE
    assert images == {(haze, False): 3, (haze, True): 3, (None, False): 2, (None, True): 2}


def test_without_any_set_it_says_where_it_looked(tmp_path):
    with pytest.raises(UsageError, match=str(tmp_path)):
        classify_sets(Spread(), [tmp_path], None, lambda name: None)


def test_the_noise_is_that_of_the_airnet_protocol(data):
    seen = []

    class Remembering(Spread):
        def diagnose(self, image: Image) -> Diagnosis:
            seen.append(image.pixels)
            return super().diagnose(image)

    classify_sets(Remembering(), [data], 1, lambda name: None)
    seed = int.from_bytes(hashlib.sha256(b"0").digest()[:4], "big")
    noise = np.random.RandomState(seed).standard_normal((40, 60, 3))
    expected = np.clip(100 + SIGMAS[0] * noise, 0, 255).astype(np.uint8)
    # The true image comes first, each as it is and then alike.
    np.testing.assert_array_equal(seen[2], expected)


@pytest.mark.parametrize("shape", [(40, 60, 3), (481, 321, 3), (20, 20, 1)])
def test_made_alike_means_one_size_and_three_channels(shape):
    pixels = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    alike = made_alike(pixels)
    assert alike.shape == (ONE_SIZE[1], ONE_SIZE[0], 3)
    assert alike.dtype == np.uint8


def test_calibration_error_by_hand():
    # Bins of a fifteenth: three at 0.5 of which one came true, and one at 1.0 that did.
    assert calibration_error([0.5, 0.5, 0.5, 1.0], [True, False, False, True]) == pytest.approx(
        (3 * abs(0.5 - 1 / 3) + 0) / 4
    )
    # Errors of opposite sign do not cancel across bins.
    assert calibration_error([0.1, 0.9], [True, False]) == pytest.approx(0.9)
    assert calibration_error([], []) == 0


def test_clean_is_an_answer_too():
    diagnosis = Diagnosis({NOISE: 0.5, RAIN: 0.2}, 0.0)
    probabilities, truths = answers([Judged("set", "0", RAIN, None, False, diagnosis, 0.0)])
    assert probabilities == pytest.approx([0.5, 0.2, 0.4])
    assert truths == [False, True, False]
    assert answers([Judged("set", "0", None, None, False, diagnosis, 0.0)])[1] == [False, False, True]


def test_right_is_exactly_what_ails():
    both = Diagnosis({NOISE: 0.9, RAIN: 0.6}, 0.0)
    judged = Judged("set", "0", NOISE, None, False, both, 0.0)
    assert judged.top1
    assert not judged.right
    assert not Judged("set", "0", None, None, False, both, 0.0).right
