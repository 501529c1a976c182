"""What models cost, against numbers worked out by hand and those of the paper."""

import json

import pytest
import torch
from torch import nn

from pipcli.cli import main
from pipcli.evaluation.bench import count_cost, time_restoring
from pipcli.inference.device import Precision
from pipcli.inference.engine import Restorer
from pipcli.models.checkpoint import save_weights
from pipcli.models.pip import PromptConfig
from pipcli.models.unet import UNet, UNetConfig
from pipcli.models.zoo import load_model


class Small(nn.Module):
    """A 3×3 convolution 3→4 at full size, one with stride 2, and a product of 4×4 maps."""

    stride = 2
    degradations = (1,)

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(3, 4, 3, padding=1)
        self.second = nn.Conv2d(4, 3, 2, stride=2, bias=False)
        self.norm = nn.LayerNorm(4)

    def forward(self, x, omega):
        feature = self.first(x)
        flat = feature.flatten(2)
        self.second(feature + (flat @ flat.mT).sum())
        return x


def test_counts_by_hand():
    model = Small()
    cost = count_cost(model, 1)
    assert cost.convolution_weights == 3 * 4 * 9 + 4 * 3 * 4
    assert cost.parameters == cost.convolution_weights + 4 + 8
    assert cost.convolution_macs == 256 * 256 * 3 * 4 * 9 + 128 * 128 * 4 * 3 * 4
    assert cost.attention_macs == 4 * 4 * 256 * 256
    assert model.first.weight.device.type == "cpu"


def test_times_are_those_of_the_runs_after_the_warm_up(monkeypatch):
    clock = iter(range(1000))
    monkeypatch.setattr("pipcli.evaluation.bench.time.perf_counter", lambda: next(clock) ** 2 / 100)
    done = []
    restorer = Restorer(Small(), torch.device("cpu"), Precision.FP32)
    timing = time_restoring(restorer, 40, 30, warmup=1, runs=3, on_run=lambda: done.append(1))
    # Run i takes from tick 2i to tick 2i + 1, that is (4i + 1) / 100 s.
    assert timing.seconds == pytest.approx((0.05, 0.09, 0.13))
    assert timing.median == pytest.approx(0.09)
    assert timing.per_megapixel == pytest.approx(0.09e6 / 1200)
    assert len(done) == 4
    assert (timing.width, timing.height, timing.tile) == (40, 30, 512)


def test_the_cost_of_pip_is_that_of_the_paper(capsys):
    code = main(["bench", "--runs", "0", "--model", "pip-restormer", "--over", "restormer,restormer-carrier"])
    out = capsys.readouterr().out
    assert code == 0
    # Table 4: +2.77 % of parameters, counted in convolutions, and +9.74 % of MACs.
    assert "pip-restormer over restormer: parameters +4.55 %" in " ".join(out.split())
    assert "in convolutions +2.77 %, MACs +9.74 %" in " ".join(out.split())
    assert "pip-restormer over restormer-carrier: parameters +12.92 %" in " ".join(out.split())


def test_a_model_over_what_carries_its_prompts(capsys):
    code = main(["bench", "--runs", "0", "--json", "--quiet", "--over", "pip-unet-carrier"])
    assert code == 0
    carrier, prompted = (json.loads(line) for line in capsys.readouterr().out.splitlines())
    assert (carrier["model"], prompted["model"]) == ("pip-unet-carrier", "pip-unet")
    prompts = load_model("pip-unet").prompts
    assert prompted["parameters"] - carrier["parameters"] == sum(p.numel() for p in prompts.parameters()) > 0
    assert main(["bench", "--model", "unet-carrier"]) == 5


def test_json_of_a_weights_file(tmp_path, capsys):
    path = tmp_path / "tiny.safetensors"
    model = UNet(UNetConfig(widths=(4, 8), blocks=(1, 1), prompts=(PromptConfig(4, 4),)))
    save_weights(model, path, {})
    options = ["--size", "48x32", "--runs", "2", "--warmup", "0", "--device", "cpu", "--precision", "fp32"]
    assert main(["bench", "--model", str(path), "--json", "--quiet", *options]) == 0
    record = json.loads(capsys.readouterr().out)
    assert record["model"] == "tiny"
    assert record["parameters"] == sum(parameter.numel() for parameter in model.parameters())
    assert (record["device"], record["precision"]) == ("cpu", "fp32")
    (timing,) = record["timings"]
    assert (timing["width"], timing["height"], len(timing["seconds"])) == (48, 32, 2)


def test_files_of_one_name_are_told_apart(tmp_path, capsys):
    paths = []
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        paths.append(tmp_path / folder / "best.safetensors")
        save_weights(UNet(UNetConfig(widths=(4, 8), blocks=(0, 0), prompts=(None,))), paths[-1], {})
    fixed = ["--runs", "0", "--device", "cpu", "--json", "--quiet"]
    assert main(["bench", "--model", str(paths[0]), "--over", str(paths[1]), *fixed]) == 0
    records = map(json.loads, capsys.readouterr().out.splitlines())
    assert [record["model"] for record in records] == ["b/best", "a/best"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--size", "big"), "--size big"),
        (("--size", "0x5"), "--size 0x5"),
        (("--runs", "-1"), "at least 0"),
        (("--model", "restormer", "--over", "restormer"), "stands twice"),
    ],
)
def test_wrong_requests(options, words, capsys):
    assert main(["bench", *options]) == 2
    assert words in capsys.readouterr().err
