"""`--task auto` of the shipped weights on photographs: clean ones stay as they are, ailing ones are undone.

python -m pytest -m slow -s tests/test_auto_photographs.py
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image as PillowImage

from pipcli.cli import main
from pipcli.degradations import Degradation
from pipcli.errors import ModelError
from pipcli.metrics import psnr
from pipcli.models import zoo
from pipcli.synthesis import SynthesisRanges
from pipcli.training.classifier_data import ExampleMaker, ExampleShares
from pipcli.training.data import Photographs, load_photographs
from pipcli.training.pictures import Picture, whole

DATA = Path(__file__).parents[2] / "shared/data"
TARGETS = (
    ("LOL/eval15/high", 1),
    ("GoPro-like/sharp", 1),
    ("SOTS-indoor/GT", 1),
    ("Rain100L/target", 4),
    ("CBSD68", 7),
)
"""True images of benchmarks, none of them ever trained on, and of how many one is taken."""

COUNT, UNTOUCHED = 100, 95
DRAWS = 4
"""Of so many degradations of a picture the strongest is taken: anybody sees what ails it."""

RIGHT, LOSS = 0.75, 0.05
SEED = 3

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not DATA.is_dir(), reason="the photographs are not on this machine"),
]


@pytest.fixture(scope="module")
def held_out() -> Photographs:
    try:
        zoo.load_classifier()
    except ModelError as error:
        pytest.skip(f"no trained weights: {error}")
    return load_photographs(DATA / "train", torch.device("cpu"))[1]


def restored(source: Path, target: Path, capsys: pytest.CaptureFixture[str], *options: str) -> dict[str, str]:
    """Name of each file → what auto found in it."""
    assert main(["restore", str(source), str(target), "--json", *options]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    return {Path(line["input"]).name: line["decision"]["verdict"] for line in lines if line.get("decision")}


def clean_photographs(held_out: Photographs, folder: Path) -> None:
    """Held-out training photographs and true images of benchmarks, 100 in all."""
    for name, bank in (("photo", held_out.photos), ("room", held_out.high)):
        for number in range(len(bank)):
            whole(bank, number).save(folder / f"{name}-{number:02}.png")
    for name, every in TARGETS:
        for path in sorted((DATA / "test" / name).iterdir())[::every]:
            (folder / f"{name.replace('/', '-')}-{path.name}").write_bytes(path.read_bytes())


def test_of_100_clean_photographs_95_are_left_untouched(held_out, tmp_path, capsys):
    source = tmp_path / "clean"
    source.mkdir()
    clean_photographs(held_out, source)
    files = sorted(source.iterdir())
    if len(files) < COUNT:
        pytest.skip(f"{len(files)} clean photographs on this machine, {COUNT} wanted")
    for path in files[COUNT:]:
        path.unlink()
    found = restored(source, tmp_path / "out", capsys)
    touched = {name: what for name, what in found.items() if what != "clean"}
    print(f"\n{COUNT - len(touched)} of {COUNT} clean photographs untouched; touched: {touched}")
    assert len(found) == COUNT
    same = [path.read_bytes() == (tmp_path / "out" / path.name).read_bytes() for path in files[:COUNT]]
    assert sum(same) == COUNT - len(touched) >= UNTOUCHED


def ailing(held_out: Photographs) -> Iterator[tuple[Degradation, Picture, Picture]]:
    """Kind, degraded and clean picture: four scenes of each kind, real pairs for low light."""
    maker = ExampleMaker(held_out, tuple(Degradation), ExampleShares(), SynthesisRanges())
    maker.seed(SEED)

    def evidently(kind: Degradation, clean: Picture) -> Picture:
        drawn = [maker.degraded(clean, kind)[0] for _ in range(DRAWS)]
        return min(drawn, key=lambda picture: psnr(np.asarray(picture), np.asarray(clean), 255))

    for number in range(0, len(held_out.photos), 4):
        clean = whole(held_out.photos, number)
        for kind in (Degradation.NOISE, Degradation.RAIN, Degradation.BLUR):
            yield kind, evidently(kind, clean), clean
    for number in range(0, len(held_out.high), 3):
        room = whole(held_out.high, number)
        yield Degradation.LOWLIGHT, whole(held_out.low, number), room
        dark = maker.darkened(room)
        yield Degradation.HAZE, evidently(Degradation.HAZE, dark), dark


def test_a_mixed_folder_comes_out_as_if_told(held_out, tmp_path, capsys):
    """Auto against the right task on a folder of all five kinds; `--basetemp` keeps it to be looked at."""
    tasks = dict(zip(Degradation, ("denoise", "derain", "dehaze", "deblur", "enhance"), strict=True))
    source, truths = tmp_path / "mixed", {}
    source.mkdir()
    for number, (kind, picture, clean) in enumerate(ailing(held_out)):
        name = f"{kind}-{number:02}.png"
        picture.save(source / name)
        truths[name] = (kind, np.asarray(clean))
        (tmp_path / kind).mkdir(exist_ok=True)
        picture.save(tmp_path / kind / name)
    found = restored(source, tmp_path / "auto", capsys)
    for kind, task in tasks.items():
        restored(tmp_path / kind, tmp_path / "told", capsys, "--task", task, "--overwrite")

    def score(path: Path, truth: np.ndarray) -> float:
        with PillowImage.open(path) as picture:
            return psnr(np.asarray(picture), truth, 255)

    print(f"\n{'file':<16} {'found':<16} {'input':>6} {'auto':>6} {'told':>6}")
    rows: dict[Degradation, list[tuple[bool, float, float, float]]] = {}
    for name, (kind, truth) in truths.items():
        scores = [score(tmp_path / folder / name, truth) for folder in ("mixed", "auto", "told")]
        print(f"{name:<16} {found[name]:<16} " + " ".join(f"{value:6.2f}" for value in scores))
        rows.setdefault(kind, []).append((found[name] == kind, *scores))
    for kind, values in rows.items():
        right = [(auto, told) for known, _, auto, told in values if known]
        loss = float(np.mean([told - auto for auto, told in right])) if right else math.nan
        gain = float(np.mean([auto - before for _, before, auto, _ in values]))
        share = f"right {len(right)} of {len(values)}"
        print(f"{kind:<10} {share}, loss there {loss:.3f} dB, auto gains {gain:.2f} dB")
        assert gain > 0
        assert not loss > LOSS
    assert np.mean([known for values in rows.values() for known, *_ in values]) >= RIGHT
