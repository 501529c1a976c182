"""Running methods on a set: what is averaged, what is not, and that the result says so."""

import json
import os

import numpy as np
import pytest
import torch
from PIL import Image as PillowImage
from skimage.metrics import peak_signal_noise_ratio

from pipcli.cli.benchmark_output import write_reports
from pipcli.degradations import Degradation
from pipcli.errors import ImageError, UsageError
from pipcli.evaluation.catalogue import find_dataset
from pipcli.evaluation.datasets import own_folder
from pipcli.evaluation.methods import Ailment, Method, input_method, model_method
from pipcli.evaluation.presenting import section_of
from pipcli.evaluation.protocols import PROTOCOLS
from pipcli.evaluation.record import benchmark_record, image_table
from pipcli.evaluation.runner import Benchmark, run_benchmark
from pipcli.inference.device import Precision
from pipcli.inference.engine import Restorer

NOISE, RAIN, HAZE, BLUR, LOWLIGHT = Degradation
AIRNET, RESTORMER = PROTOCOLS["airnet"], PROTOCOLS["restormer"]


def photo(seed, height=40, width=50):
    cells = np.random.default_rng(seed).integers(0, 256, (height // 8, width // 8, 3), np.uint8)
    return np.asarray(PillowImage.fromarray(cells).resize((width, height), PillowImage.Resampling.BICUBIC))


@pytest.fixture
def clean(tmp_path):
    """Three clean images."""
    folder = tmp_path / "clean"
    folder.mkdir()
    for seed in range(3):
        PillowImage.fromarray(photo(seed)).save(folder / f"{seed}.png")
    return own_folder(folder, None)


@pytest.fixture
def pairs(tmp_path, clean):
    """The same three, and darker inputs."""
    folder = tmp_path / "dark"
    folder.mkdir()
    for seed in range(3):
        PillowImage.fromarray(photo(seed) // 2).save(folder / f"{seed}.png")
    return own_folder(tmp_path / "clean", folder)


def method(restore, name="mine", degradations=tuple(Degradation)):
    return Method(name, restore, degradations)


def test_figures_are_those_of_a_plain_loop(clean):
    dataset, located = clean
    halved = method(lambda degraded, ailment: degraded * 0.9)
    result = run_benchmark(Benchmark(dataset, AIRNET, 25), located, [input_method(), halved])
    expected = []
    for pair in located.pairs:
        truth = np.asarray(PillowImage.open(pair.clean))[4:36, 1:49]
        noisy = AIRNET.add_noise(truth, 25, pair.name)
        expected.append(peak_signal_noise_ratio(truth / 255.0, 0.9 * noisy.astype(np.float64), data_range=1))
    found = [scores.psnr for scores in result.methods[1].scored]
    assert found == pytest.approx(expected, abs=1e-5)
    assert result.methods[1].means.psnr == pytest.approx(np.mean(expected), abs=1e-5)
    assert result.shortfall == ""
    assert [image.width for image in result.methods[0].images] == [48] * 3


def test_methods_are_told_what_ails_the_image(pairs):
    dataset, located = pairs
    from dataclasses import replace

    told = []
    listening = method(lambda degraded, ailment: told.append(ailment) or degraded)
    dark = replace(dataset, weights={LOWLIGHT: 1.0})
    run_benchmark(Benchmark(dark, AIRNET), located, [input_method(), listening], limit=1)
    run_benchmark(Benchmark(dark, AIRNET, 25), located, [input_method(), listening], limit=1)
    run_benchmark(Benchmark(dataset, AIRNET, 15, (RAIN, HAZE)), located, [input_method(), listening], limit=1)
    third = pytest.approx(1 / 3)
    assert told == [
        Ailment({LOWLIGHT: 1.0}, None),
        Ailment({LOWLIGHT: 0.5, NOISE: 0.5}, 25),
        Ailment({RAIN: third, HAZE: third, NOISE: third}, 15),
    ]


class Shifting(torch.nn.Module):
    """y = x + 1 where x is below 0, else x: shows whether what lies below black reaches the model."""

    stride = 1
    degradations = (NOISE,)

    def forward(self, x, omega):
        return torch.where(x < 0, x + 1, x)


def test_a_model_sees_float_noise_as_it_is_and_its_floats_are_not_rounded():
    restorer = Restorer(Shifting(), torch.device("cpu"), Precision.FP32)
    restore = model_method("m", restorer, "0" * 64).restore
    degraded = np.array([[[-0.25, 0.1234567, 0.5], [1.5, 0.0, 1.0]]], np.float32)
    restored = restore(degraded, Ailment({NOISE: 1.0}, 25))
    np.testing.assert_allclose(restored, [[[0.75, 0.1234567, 0.5], [1.0, 0.0, 1.0]]], atol=1e-7)
    grey = restore(degraded[:, :, :1], Ailment({NOISE: 1.0}, 25))
    np.testing.assert_allclose(grey, [[[0.75], [1.0]]], atol=1e-7)


def test_a_model_is_not_run_on_what_it_does_not_undo(pairs):
    dataset, located = pairs
    denoiser = model_method("m", Restorer(Shifting(), torch.device("cpu"), Precision.FP32), "0" * 64)
    benchmark = Benchmark(dataset, AIRNET, 25, (RAIN,))
    result = run_benchmark(benchmark, located, [input_method(), denoiser])
    assert result.methods[1].refusal == "does not undo rain"
    assert result.methods[1].images == ()
    assert result.methods[1].means is None


def test_what_no_task_undoes_is_measured_only_beside_something_else(pairs):
    _, located = pairs
    denoiser = method(lambda degraded, ailment: degraded)
    snow = run_benchmark(Benchmark(find_dataset("CDD-11/snow"), AIRNET), located, [input_method(), denoiser])
    assert [each.refusal for each in snow.methods] == [None, "does not undo snow"]
    assert len(snow.methods[0].scored) == 3
    both = Benchmark(find_dataset("CDD-11/low_snow"), AIRNET)
    assert both.ailment == Ailment({LOWLIGHT: 1.0}, None, ("snow",))
    assert [each.refusal for each in run_benchmark(both, located, [denoiser]).methods] == [None]


def test_outputs_that_are_no_numbers_are_named_and_left_out(clean):
    dataset, located = clean

    def restore(degraded, ailment):
        restore.calls += 1
        if restore.calls == 1:
            return degraded * np.float32(np.nan)
        if restore.calls == 2:
            raise ImageError("the model's output is not finite (NaN or infinity), in fp32 either")
        return degraded

    restore.calls = 0
    result = run_benchmark(Benchmark(dataset, AIRNET, 25), located, [input_method(), method(restore)])
    mine = result.methods[1]
    assert [image.name for image in mine.failures] == ["0", "1"]
    assert all("not finite" in image.error and "mine" in image.error for image in mine.failures)
    assert mine.means.psnr == result.methods[0].scored[2].psnr


def test_pairs_of_two_sizes_and_broken_files_are_named_and_left_out(pairs, tmp_path):
    dataset, located = pairs
    PillowImage.fromarray(photo(1, 48, 50)).save(tmp_path / "dark" / "1.png")
    (tmp_path / "dark" / "2.png").write_text("no image")
    result = run_benchmark(Benchmark(dataset, AIRNET), located, [input_method()])
    assert len(result.methods[0].scored) == 1
    assert len(result.problems) == 2
    assert result.shortfall == "1 of 3 images"
    section = section_of(result, located, False)
    assert not section.whole
    assert section.notes == (f"2 could not be used: {'; '.join(result.problems)}",)
    assert "50×48 and 50×40" in result.problems[0]
    assert "2.png" in result.problems[1]


def test_names_that_are_no_utf8_are_measured(tmp_path):
    folder = tmp_path / "odd"
    folder.mkdir()
    try:
        PillowImage.fromarray(photo(1)).save(folder / os.fsdecode(b"\xff\xb2.png"))
    except OSError:
        pytest.skip("the file system here takes UTF-8 alone")
    dataset, located = own_folder(folder, None)
    result = run_benchmark(Benchmark(dataset, AIRNET, 25), located, [input_method()])
    assert len(result.methods[0].scored) == 1
    write_reports(tmp_path / "out", (), [(result, located)], (), (), lambda line: None)
    assert "\\udcff" in (tmp_path / "out/report.csv").read_text("utf-8")


def test_a_part_of_a_set_is_labelled(clean):
    dataset, located = clean
    result = run_benchmark(Benchmark(dataset, AIRNET, 25), located, [input_method()], limit=2)
    assert result.shortfall == "2 of 3 images"
    stopped = run_benchmark(Benchmark(dataset, AIRNET, 25), located, [input_method()], stopping=lambda: True)
    assert stopped.shortfall == "0 of 3 images"
    assert stopped.methods[0].means is None


def test_other_images_under_a_known_name_are_told(clean):
    _, located = clean
    result = run_benchmark(Benchmark(find_dataset("CBSD68"), AIRNET, 25), located, [input_method()])
    assert result.altered == ("0", "1", "2")
    assert result.shortfall == "3 of 68 images, 3 with other pixels than the published set"


def test_the_hash_is_that_of_the_inputs(clean):
    dataset, located = clean
    hashes = [
        run_benchmark(Benchmark(dataset, protocol, sigma), located, [input_method()]).input_hash
        for protocol, sigma in ((AIRNET, 25), (AIRNET, 25), (AIRNET, 15), (RESTORMER, 25))
    ]
    assert hashes[0] == hashes[1]
    assert len(set(hashes)) == 3


def test_the_input_is_measured_as_the_methods_get_it(clean):
    dataset, located = clean
    same = method(lambda degraded, ailment: degraded)
    result = run_benchmark(Benchmark(dataset, RESTORMER, 50), located, [input_method(), same])
    # An output is clipped and rounded, which brings float noise nearer to the truth.
    assert result.methods[1].means.psnr > result.methods[0].means.psnr + 0.2


@pytest.mark.parametrize(
    ("protocol", "sigma", "why"),
    [(AIRNET, None, "say --sigma"), (AIRNET, 500, "at most 255"), (PROTOCOLS["y"], 25, "no synthetic noise")],
)
def test_benchmarks_that_cannot_be(protocol, sigma, why):
    with pytest.raises(UsageError, match=why):
        Benchmark(find_dataset("CBSD68"), protocol, sigma)


def test_titles(pairs):
    assert Benchmark(find_dataset("CBSD68"), AIRNET, 25).title == "CBSD68 σ 25"
    assert Benchmark(find_dataset("Rain100L"), AIRNET).title == "Rain100L"
    assert Benchmark(find_dataset("Rain100L"), AIRNET, 25).title == "Rain100L + noise σ 25"


def test_records_are_json_and_csv_without_nan(pairs):
    dataset, located = pairs

    def perfect(degraded, ailment):
        return photo(perfect.calls.pop(0))[4:36, 1:49].astype(np.float32) / np.float32(255)

    perfect.calls = [0, 1, 2]
    result = run_benchmark(Benchmark(dataset, PROTOCOLS["restormer"]), located, [input_method()])
    record = json.loads(json.dumps(benchmark_record(result), allow_nan=False))
    assert [image["name"] for image in record["methods"][0]["images"]] == ["0", "1", "2"]
    mean = np.mean([image["psnr"] for image in record["methods"][0]["images"]])
    assert record["methods"][0]["mean"]["psnr"] == pytest.approx(mean, abs=1e-3)
    exact = run_benchmark(Benchmark(dataset, AIRNET), located, [input_method(), method(perfect)])
    record = json.loads(json.dumps(benchmark_record(exact), allow_nan=False))
    # As far as two ways to round agree.
    assert record["methods"][1]["mean"]["psnr"] > 140
    lines = image_table([result]).splitlines()
    assert lines[0].startswith("benchmark,protocol,method,image")
    assert len(lines) == 4
