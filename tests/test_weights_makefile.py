"""weights/Makefile: its runs are of known recipes, start from earlier ones, and end in what is shipped."""

from __future__ import annotations

import shlex
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from pipcli.configuration import to_mapping
from pipcli.models.backbone import SPECIALISTS
from pipcli.models.checkpoint import read_record
from pipcli.models.zoo import CLASSIFIERS, MODELS
from pipcli.training.classifier_recipe import is_classifier_recipe, load_classifier_recipe
from pipcli.training.recipe import load_recipe

ROOT = Path(__file__).parent.parent

pytestmark = pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")


@dataclass
class Run:
    """A command of the Makefile: its recipe and options, each of which may come several times."""

    recipe: str
    options: dict[str, list[str]]

    def loaded(self) -> dict[str, Any]:
        """The recipe with all changes, as a record of training has it."""
        load = load_classifier_recipe if is_classifier_recipe(self.recipe) else load_recipe
        changes = [*self.options.get("--set", [])]
        for length, other in (("steps", "minutes=0"), ("minutes", "steps={}")):
            if f"--{length}" in self.options:
                changes += [f"{length}={self.options[f'--{length}'][0]}", other]
        return to_mapping(load(self.recipe, changes))


def make(target: str, *words: str) -> str:
    command = ["make", "--no-print-directory", "-f", "weights/Makefile", target, *words]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout


def split(line: str) -> tuple[str, str, list[str]]:
    """The program that a line starts, its command, and the rest."""
    words = shlex.split(line)
    at = words.index("train")
    return " ".join(words[:at]), words[at], words[at + 1 :]


def runs(target: str) -> list[Run]:
    found = []
    for line in make(target, "-n", "DATA=photos", "CT=slices", "RUNS=nowhere").splitlines():
        program, command, (recipe, *words) = split(line)
        assert program == "pipcli" or program.endswith("torchrun --standalone --nproc-per-node 2 -m pipcli")
        assert command == "train"
        options: dict[str, list[str]] = {}
        for name, value in zip(words[::2], words[1::2], strict=True):
            options.setdefault(name, []).append(value)
        found.append(Run(recipe, options))
    return found


@pytest.mark.parametrize("name", [*MODELS, *CLASSIFIERS])
def test_every_run_is_of_a_recipe_and_starts_from_what_is_there_by_then(name):
    there: set[str] = set()
    for run in runs(name):
        run.loaded()
        assert run.options["--data"] == ["photos"]
        assert run.options.get("--ct") == (None if is_classifier_recipe(run.recipe) else ["slices"])
        for start in run.options.get("--init", []):
            assert start.rpartition("/")[0] in there
            assert start.rpartition("/")[2] in ("last.safetensors", "best.safetensors")
        (out,) = run.options["--out"]
        assert out.startswith((f"nowhere/{name}/", *(f"nowhere/unet-{each}/" for each in SPECIALISTS)))
        assert out not in there
        there.add(out)


@pytest.mark.parametrize("name", [*MODELS, *CLASSIFIERS])
def test_the_last_run_is_what_the_shipped_weights_say_of_themselves(name):
    record = read_record(ROOT / "weights" / {**MODELS, **CLASSIFIERS}[name].file)["training"]["recipe"]
    recipe = runs(name)[-1].loaded()
    for key in ("architecture", "model", "seed", "minutes"):
        assert record[key] == recipe[key], key
    if recipe["steps"] == 0:
        # A mean. Those of before 0 steps could be made are from one that was too short to change a number.
        assert record["steps"] == 0 or record["optimiser"]["learning_rate"] < 1e-9
        return
    # What has come into the recipes since, a record cannot tell.
    for key in {"data", "loss", "optimiser"} & recipe.keys():
        assert record[key] == {name: recipe[key][name] for name in record[key]}, key
    told, asked = (each.get("stages", []) for each in (record, recipe))
    assert told == [{name: stage[name] for name in known} for stage, known in zip(asked, told, strict=True)]


def test_what_is_finished_is_not_run_again_and_what_was_cut_off_goes_on(tmp_path):
    trainer = tmp_path / "trainer"
    trainer.write_text(
        '#!/bin/sh\nwhile [ "$1" != --out ]; do shift; done\n'
        'mkdir -p "$2" && touch "$2/best.safetensors" "$2/last.safetensors"\n'
    )
    trainer.chmod(0o755)
    words = ("DATA=photos", f"RUNS={tmp_path / 'runs'}", f"PIPCLI={trainer}", f"TORCHRUN={trainer}")
    make("pip-unet", *words)
    assert "train" not in make("pip-unet", "-n", *words)
    cut_off = tmp_path / "runs/pip-unet/3"
    (cut_off / "last.safetensors").unlink()
    (cut_off / "checkpoint").mkdir()
    again = make("pip-unet", "-n", *words).splitlines()
    assert [line.endswith("--resume") for line in again] == [f"--out {cut_off} " in line for line in again]
    assert f"--out {cut_off} " in again[0]


def test_without_photographs_it_says_so():
    with pytest.raises(subprocess.CalledProcessError) as caught:
        make("pip-unet")
    assert "DATA is missing" in caught.value.stderr
