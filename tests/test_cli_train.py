"""``pipcli train``: options, exit codes, and a run that is killed, stopped and gone on with."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from photographs import TINY, write_recipe

from pipcli.cli import main
from pipcli.models.checkpoint import load_weights, read_record
from pipcli.models.zoo import load_classifier
from pipcli.training.checkpoint import load_checkpoint
from pipcli.training.recipe import RECIPES

CLASSIFIER = {
    "architecture": "classifier",
    "model": {"size": 32, "crops": 2, "widths": [16, 16], "depth": 1, "features": 8},
    "batch": 4,
    "data": {"sides": [32, 40]},
}


@pytest.fixture
def recipe(tmp_path) -> Path:
    return write_recipe(tmp_path / "tiny.toml", {**TINY, "minutes": 60, "checkpoint_minutes": 1e-4})


def arguments(recipe: Path | str, data: Path, out: Path, *more: str) -> list[str]:
    return ["train", str(recipe), "--data", str(data), "--out", str(out), *more]


def test_help_names_every_option(capsys):
    assert main(["train", "--help"]) == 0
    shown = capsys.readouterr().out
    for word in ("RECIPE", "--data", "--out", "--minutes", "--steps", "--resume", "--init", "--ct", "--set"):
        assert word in shown


def test_a_run_ends_with_weights(recipe, photo_folder, tmp_path, capsys):
    assert main(arguments(recipe, photo_folder, tmp_path / "run", "--steps", "2")) == 0
    shown = capsys.readouterr()
    assert shown.out == ""
    assert f"weights are in {tmp_path}/run/last.safetensors" in shown.err
    # One line for each validation, here after every step.
    assert shown.err.count("blur-frames") == len((tmp_path / "run/log.jsonl").read_text().splitlines()) == 2
    assert load_weights(tmp_path / "run/last.safetensors").prompted
    training = read_record(tmp_path / "run/last.safetensors")["training"]
    assert training["recipe"]["steps"] == 2
    assert training["recipe"]["minutes"] == 0


def test_entries_of_the_recipe_can_be_set(photo_folder, tmp_path, capsys):
    recipe = write_recipe(tmp_path / "tiny.toml", {**TINY, "steps": 1})
    sets = ["--set", "loss.fft=0.25", "--set", "optimiser.muon=false"]
    assert main(arguments(recipe, photo_folder, tmp_path / "run", *sets)) == 0
    training = read_record(tmp_path / "run/last.safetensors")["training"]["recipe"]
    assert training["loss"]["fft"] == 0.25
    assert training["optimiser"]["muon"] is False
    assert main(arguments(recipe, photo_folder, tmp_path / "other", "--set", "loss.fft=much")) == 2
    shown = capsys.readouterr().err
    assert "change 'loss.fft=much' is no line of TOML such as optimiser.learning_rate=1e-3" in shown
    assert not (tmp_path / "other").exists()


def test_minutes_take_the_place_of_the_recipes_steps(photo_folder, tmp_path):
    recipe = write_recipe(tmp_path / "tiny.toml", {**TINY, "steps": 1_000_000})
    assert main(arguments(recipe, photo_folder, tmp_path / "run", "--minutes", "0.001")) == 0
    training = read_record(tmp_path / "run/last.safetensors")["training"]["recipe"]
    assert (training["minutes"], training["steps"]) == (0.001, None)


@pytest.mark.parametrize(
    ("options", "code", "words"),
    [
        (["--steps", "2", "--minutes", "1"], 2, "--minutes and --steps exclude each other"),
        (["--steps", "-1"], 2, "--steps is -1: it must be at least 0"),
        (["--steps", "0"], 2, "a run of 0 steps keeps the weights that it starts from"),
        (["--minutes", "-1"], 2, "--minutes is -1.0: it must be a number above 0"),
        (["--minutes", "nan"], 2, "--minutes is nan: it must be a number above 0"),
        (["--minutes", "inf"], 2, "--minutes is inf: it must be a number above 0"),
        (["--steps", "many"], 2, "--steps"),
        (["--ct", "nowhere"], 2, "nowhere: is no folder"),
        (["--resume"], 5, "no checkpoint to resume from in"),
        (["--init", "nowhere.safetensors"], 5, "weights nowhere.safetensors do not exist"),
    ],
)
def test_wrong_options_give_one_line(recipe, photo_folder, tmp_path, capsys, options, code, words):
    assert main(arguments(recipe, photo_folder, tmp_path / "run", *options)) == code
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.count("\n") == 1
    assert words in shown.err
    assert not (tmp_path / "run").exists()


def test_an_unknown_recipe_gives_one_line(photo_folder, tmp_path, capsys):
    assert main(arguments("nonesuch", photo_folder, tmp_path / "run")) == 2
    shown = capsys.readouterr().err
    known = ", ".join(sorted(path.stem for path in RECIPES.glob("*.toml")))
    assert f"recipe nonesuch is neither a file nor one of the package's: {known}" in shown
    assert shown.count("\n") == 1


def test_a_recipe_with_a_mistake_gives_one_line(photo_folder, tmp_path, capsys):
    recipe = write_recipe(tmp_path / "tiny.toml", {**TINY, "sleps": 3})
    assert main(arguments(recipe, photo_folder, tmp_path / "run")) == 2
    shown = capsys.readouterr().err
    assert f"recipe {recipe}: unknown entry sleps" in shown
    assert shown.count("\n") == 1


def test_missing_data_gives_one_line(recipe, tmp_path, capsys):
    assert main(arguments(recipe, tmp_path / "nowhere", tmp_path / "run")) == 2
    assert f"data folder {tmp_path}/nowhere: photos/ holds 0 images" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_a_folder_that_cannot_be_made_gives_one_line(recipe, photo_folder, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert main(arguments(recipe, photo_folder, tmp_path / "file/run")) == 7
    assert f"folder {tmp_path}/file/run cannot be made" in capsys.readouterr().err


def begun(command: list[str], log: Path, lines: int) -> subprocess.Popen[str]:
    """A run in a process of its own that has written this many lines to its log."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        [sys.executable, "-m", "pipcli", *command],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 120
    while not (log.exists() and log.read_text().count("\n") >= lines):
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return process


def steps_in(log: Path) -> list[int]:
    return [json.loads(line)["step"] for line in log.read_text().splitlines()]


def test_sigterm_leaves_a_checkpoint_to_go_on_from(recipe, photo_folder, tmp_path):
    out = tmp_path / "run"
    log = out / "log.jsonl"
    process = begun(arguments(recipe, photo_folder, out), log, 2)
    process.send_signal(signal.SIGTERM)
    _, shown = process.communicate(timeout=60)
    assert process.returncode == 130
    assert f"stopped at a checkpoint; the same command with --resume goes on in {out}" in shown
    assert "Traceback" not in shown
    stopped_at = load_checkpoint(out)[1]["step"]
    assert stopped_at >= steps_in(log)[-1]
    assert not (out / "last.safetensors").exists()

    steps = str(stopped_at + 2)
    assert main(arguments(recipe, photo_folder, out, "--resume", "--steps", steps)) == 0
    assert steps_in(log)[-2:] == [stopped_at + 1, stopped_at + 2]
    assert load_weights(out / "last.safetensors").prompted


@pytest.mark.slow
def test_a_kill_leaves_a_whole_checkpoint(recipe, photo_folder, tmp_path):
    """SIGKILL at no particular moment of a run that writes a checkpoint after every step."""
    out = tmp_path / "run"
    log = out / "log.jsonl"
    more: list[str] = []
    for wait in (0.0, 0.03, 0.09):
        written = log.read_text().count("\n") if log.exists() else 0
        process = begun(arguments(recipe, photo_folder, out, *more), log, written + 3)
        time.sleep(wait)
        process.kill()
        process.communicate()
        # The checkpoint is written just before its line in the log.
        assert load_checkpoint(out)[1]["step"] - steps_in(log)[-1] in (0, 1)
        more = ["--resume"]
    assert main(arguments(recipe, photo_folder, out, "--resume", "--minutes", "0.0001")) == 0
    assert load_weights(out / "last.safetensors").prompted


def test_a_classifiers_recipe_trains_a_classifier(photo_folder, tmp_path, capsys):
    recipe = write_recipe(tmp_path / "own.toml", CLASSIFIER)
    assert main(arguments(recipe, photo_folder, tmp_path / "run", "--steps", "1")) == 0
    shown = capsys.readouterr().err
    assert "top1" in shown
    assert "dB" not in shown
    load_classifier(str(tmp_path / "run/last.safetensors"))


def test_what_is_not_for_a_classifier_is_refused(photo_folder, tmp_path, capsys):
    recipe = write_recipe(tmp_path / "own.toml", CLASSIFIER)
    assert main(arguments(recipe, photo_folder, tmp_path / "run", "--ct", "x")) == 2
    assert "--ct is not for a classifier" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
