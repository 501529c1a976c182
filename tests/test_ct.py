"""Measuring on CT: noise as it is said to be, figures as they are defined."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import scans
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from pipcli.cli import main
from pipcli.degradations import Degradation
from pipcli.errors import ImageError, UsageError
from pipcli.evaluation.ct import CtNoise, ct_files, measure_ct, score_ct
from pipcli.evaluation.methods import Method, input_method
from pipcli.images.dicom_windows import Window

WINDOW = Window(-200, 300)


def correlation(values: np.ndarray, axis: int) -> float:
    ahead, behind = (np.take(values, range(*span), axis) for span in ((1, 400), (0, 399)))
    return float(np.corrcoef(ahead.ravel(), behind.ravel())[0, 1])


def test_white_noise_is_white():
    noise = CtNoise(49.0).draw((400, 400), "a")
    assert noise.std() == pytest.approx(49, rel=0.01)
    assert abs(correlation(noise, 0)) < 0.01
    assert abs(correlation(noise, 1)) < 0.01


def test_quarter_dose_is_correlated_as_measured():
    noise = CtNoise(24.0, correlated=True).draw((400, 400), "a")
    assert noise.std() == pytest.approx(24, rel=0.03)
    assert correlation(noise, 1) == pytest.approx(0.59, abs=0.02)
    assert correlation(noise, 0) == pytest.approx(0.37, abs=0.02)


def test_noise_follows_from_the_name():
    noise = CtNoise(10.0)
    np.testing.assert_array_equal(noise.draw((9, 9), "a"), noise.draw((9, 9), "a"))
    assert (noise.draw((9, 9), "a") != noise.draw((9, 9), "b")).any()
    for sigma in (0, -1, np.nan, np.inf):
        with pytest.raises(UsageError, match="it must be above 0"):
            CtNoise(sigma)


def test_figures_are_as_defined():
    clean = scans.phantom(96)
    rng = np.random.default_rng(1)
    restored = clean + rng.normal(3, 20, clean.shape)
    padded = np.zeros(clean.shape, bool)
    padded[:30] = True
    restored[:20] = 9999  # does not count but in the picture of the window
    scores = score_ct(clean, restored, padded, WINDOW)
    counted = (clean > -200) & (clean < 300) & ~padded
    error = (restored - clean)[counted]
    assert scores.rmse == pytest.approx(np.sqrt((error**2).mean()))
    assert scores.bias == pytest.approx(error.mean())
    shown = [np.clip(values, -200, 300) for values in (clean, restored)]
    assert scores.psnr == pytest.approx(peak_signal_noise_ratio(*shown, data_range=500))
    similarity = structural_similarity(
        *shown, data_range=500, gaussian_weights=True, sigma=1.5, use_sample_covariance=False, full=True
    )[1][5:-5, 5:-5].mean()
    assert scores.ssim == pytest.approx(similarity, abs=1e-9)
    assert set(scores.tissues) == {"air", "lung", "fat", "soft", "bone"}
    soft = (clean == 40) & ~padded
    assert scores.tissues["soft"] == pytest.approx((restored - clean)[soft].mean(), abs=1)


def test_a_tissue_that_is_not_there_has_no_bias():
    clean = np.full((16, 16), 40.0)
    assert score_ct(clean, clean + 1, np.zeros((16, 16), bool), WINDOW).tissues == {"soft": 1.0}


def folder_of(root: Path) -> Path:
    for index in (1, 2):
        values = np.kron(scans.phantom(24), np.ones((2, 2)))
        scans.save(root / "a" / f"IM{index}", scans.scan(values, instance=index))
    report = scans.scan()
    report.SOPClassUID = report.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.88.11"
    scans.save(root / "report", report)
    broken = scans.save(root / "broken", scans.scan())
    broken.write_bytes(broken.read_bytes()[:-9])
    (root / "text.txt").write_text("no image")
    return root


def test_methods_are_measured_on_every_slice(tmp_path):
    root = folder_of(tmp_path)
    told = []

    def smooth(noisy, ailment):
        told.append(ailment)
        around = np.pad(noisy[..., 0], 1, mode="edge")
        rows = around[:-2] + around[1:-1] + around[2:]
        return ((rows[:, :-2] + rows[:, 1:-1] + rows[:, 2:]) / 9)[..., None]

    methods = [input_method(), Method("smooth", smooth, (Degradation.NOISE,))]
    result = measure_ct(
        root, ct_files(root), WINDOW, CtNoise(49.0), methods, lambda name: None, lambda: False
    )
    assert result.slices == ("a/IM1", "a/IM2")
    assert (len(result.problems), result.left_alone) == (1, 1)
    noisy, smoothed = result.rows
    assert noisy.mean("rmse") == pytest.approx(49, rel=0.05)
    # White noise falls to a third, and edges are smoothed with it.
    assert noisy.mean("rmse") / 3 < smoothed.mean("rmse") < noisy.mean("rmse") / 2
    assert abs(noisy.mean("soft")) < 5
    assert told[0].sigma == pytest.approx(49 / 500 * 255)
    assert told[0].weights == {Degradation.NOISE: 1.0}


def test_slices_without_figures_are_named_and_the_others_measured(tmp_path):
    root = folder_of(tmp_path)
    small = scans.scan(np.full((8, 12), 40, np.int16))
    scans.save(root / "a" / "small", small)

    def broken(noisy, ailment):
        raise ImageError("the output is not finite")

    names = ct_files(root)
    methods = [input_method(), Method("broken", broken, (Degradation.NOISE,))]
    result = measure_ct(root, names, WINDOW, CtNoise(49.0), methods[:1], lambda name: None, lambda: False)
    assert result.slices == ("a/IM1", "a/IM2")
    assert "a/small: is 12×8 pixels, figures need at least 11×11" in result.problems
    result = measure_ct(root, names, WINDOW, CtNoise(49.0), methods, lambda name: None, lambda: False)
    assert (result.slices, [len(row.scores) for row in result.rows]) == ((), [0, 0])
    assert "a/IM1: by broken: the output is not finite" in result.problems


def test_strength_is_the_share_of_the_change(tmp_path):
    scans.save(tmp_path / "a", scans.scan(np.full((64, 64), 40.0)))

    def flat(noisy, ailment):
        return np.full_like(noisy, 240 / 500)

    methods = [input_method(), Method("flat", flat, (Degradation.NOISE,))]
    rmse = []
    for strength in (0.0, 0.5, 1.0):
        result = measure_ct(
            tmp_path, ct_files(tmp_path), WINDOW, CtNoise(16.0), methods, print, lambda: False, strength
        )
        assert result.strength == strength
        rmse.append(result.rows[1].mean("rmse"))
    assert rmse[0] == pytest.approx(result.rows[0].mean("rmse"))
    assert rmse[1] == pytest.approx(rmse[0] / 2, rel=0.05)
    assert rmse[2] < rmse[0] / 5


def test_means_that_jump_from_slice_to_slice_are_seen(tmp_path):
    # By name they come in another order than along z: 1, 3, 5, 2, 4.
    heights = {"1": 1, "2": 3, "3": 5, "4": 2, "5": 4}
    for name, z in heights.items():
        scans.save(tmp_path / name, scans.scan(np.full((64, 64), 40.0), instance=z))

    def rising(noisy, ailment):
        """Brighter by 5 HU with every slice that it sees."""
        seen.append(noisy)
        return noisy + len(seen) * 5 / 500

    seen: list[np.ndarray] = []
    methods = [input_method(), Method("rising", rising, (Degradation.NOISE,))]
    names, noise = ct_files(tmp_path), CtNoise(16.0)
    result = measure_ct(tmp_path, names, WINDOW, noise, methods, lambda name: None, lambda: False)
    noisy, raised = result.rows
    # Regions of 16×16 pixels, so the noise leaves a deviation of 1 HU in their means.
    assert noisy.jump == pytest.approx(math.sqrt(2), rel=0.3)
    # What a method adds to a whole region is taken out again by the mean that restoring keeps.
    assert raised.jump == pytest.approx(noisy.jump, rel=0.05)


def test_the_command(tmp_path, capsys):
    root = folder_of(tmp_path)
    command = ["eval", "--dataset", f"ct:{root}", "--method", "nlm", "--device", "cpu"]
    assert main([*command, "--sigma", "25", "--quarter-dose", "--window=-200,300"]) == 3
    out, err = capsys.readouterr()
    assert "white noise of 49 HU, window [-200, 300] HU, strength 1, 2 slices" in out
    assert "correlated noise of 24 HU" in out
    assert "left alone, no axial CT images: 1" in out
    assert [line.split()[0] for line in out.splitlines() if line.startswith(("input", "nlm"))] == [
        "input",
        "nlm",
    ] * 2
    assert "jump HU" in out
    assert "broken: has" in err
    assert main([*command, "--sigma", "25", "--json"]) == 3
    record = json.loads(capsys.readouterr().out)
    assert [row["method"] for row in record["methods"]] == ["input", "nlm"]
    assert all({"rmse", "bias", "psnr", "ssim", "jump", "seconds"} < row.keys() for row in record["methods"])
    assert record["methods"][1]["rmse"] < record["methods"][0]["rmse"]
    assert set(record["methods"][0]["bias_by_tissue"]) == {"air", "lung", "fat", "soft", "bone"}
    assert scans.CANARY not in out + err + json.dumps(record)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "needs noise"),
        (["--sigma", "0"], "it must be above 0"),
        (["--sigma", "25", "--window", "auto"], "another for each file"),
        (["--sigma", "25", "--strength", "1.1"], "--strength is 1.1: it must be from 0 to 1"),
        (["--sigma", "25", "--window", "liver"], "unknown window"),
        (["--sigma", "25", "--out", "there"], "--out and --save-images are not for"),
        (["--sigma", "25", "--dataset", "CBSD68"], "cannot stand beside"),
    ],
)
def test_what_cannot_be_measured_is_refused(tmp_path, capsys, arguments, message):
    scans.save(tmp_path / "a", scans.scan())
    assert main(["eval", "--dataset", f"ct:{tmp_path}", "--method", "nlm", *arguments]) == 2
    assert message in capsys.readouterr().err


def test_folders_without_ct_are_refused(tmp_path, capsys):
    assert main(["eval", "--dataset", f"ct:{tmp_path}", "--sigma", "25"]) == 2
    assert "holds no DICOM files" in capsys.readouterr().err
    assert main(["eval", "--dataset", "CBSD68", "--window", "lung"]) == 2
    assert "go with --dataset ct:FOLDER" in capsys.readouterr().err
    assert main(["eval", "--dataset", "CBSD68", "--strength", "0.5"]) == 2
    assert "go with --dataset ct:FOLDER" in capsys.readouterr().err
