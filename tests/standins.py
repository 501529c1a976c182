"""A model of random weights for runs of the whole command, how to run it, and a classifier of colours."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import torch
from torch import Tensor, nn

from pipcli.degradations import Degradation
from pipcli.models.checkpoint import save_weights
from pipcli.models.classifier import ClassifierConfig
from pipcli.models.unet import UNet, UNetConfig


def write_weights(path: Path) -> Path:
    """Weights of a tiny U-Net that changes its input; the same at every call."""
    torch.manual_seed(0)
    model = UNet(UNetConfig(widths=(8, 16), blocks=(1, 1), prompts=(None,)))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=parameter[0].numel() ** -0.5)
    save_weights(model, path, {"steps": 0}, torch.float32)
    return path


class ColourClassifier(nn.Module):
    """Takes red for noise of σ 25, green for rain, blue for haze, from half of the full colour on."""

    degradations = tuple(Degradation)
    config = ClassifierConfig(size=32, crops=2)

    def forward(self, crops: Tensor, overview: Tensor) -> tuple[Tensor, Tensor]:
        colour = crops.mean(dim=(1, 3, 4))
        logits = torch.cat([20 * (colour - 0.5), torch.full((len(crops), 2), -9.0)], dim=1)
        return logits, torch.full((len(crops),), 25.0)


def words(weights: Path, *arguments: str | Path) -> list[str]:
    """``restore`` with these weights, on the CPU in fp32."""
    fixed = ["--task", "denoise", "--model", str(weights), "--device", "cpu", "--precision", "fp32"]
    return ["restore", *map(str, arguments), *fixed]


def start(weights: Path, *arguments: str | Path, cwd: Path | None = None) -> subprocess.Popen[bytes]:
    """The command as a process of its own, in one thread."""
    return subprocess.Popen(
        [sys.executable, "-m", "pipcli", *words(weights, *arguments)],
        cwd=cwd,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )


def contents(folder: Path) -> dict[str, bytes]:
    """Every file that is not hidden, by its path below the folder."""
    found = {}
    for path in folder.rglob("*"):
        relative = path.relative_to(folder)
        if path.is_file() and not any(part.startswith(".") for part in relative.parts):
            found[str(relative)] = path.read_bytes()
    return found


def leftovers(folder: Path) -> list[str]:
    """What is neither a result nor a ledger."""
    hidden = (path.relative_to(folder) for path in folder.rglob(".*"))
    return [str(path) for path in hidden if path.parts[-1] != ".pipcli"]
