"""The README keeps its word: its Python example runs, its commands and options exist, its files are there."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipcli.cli import main
from pipcli.cli.demo import SCENES
from pipcli.images import FORMATS

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    """The bodies of all code blocks in one language."""
    return re.findall(rf"^```{language}\n(.*?)^```", README, flags=re.MULTILINE | re.DOTALL)


COMMANDS = sorted({line for block in blocks("console") for line in block.splitlines()})


def test_python_example_runs(tmp_path, monkeypatch, capsys):
    (example,) = blocks("python")
    picture = np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8)
    Image.fromarray(picture).save(tmp_path / "rainy.jpg")
    monkeypatch.chdir(tmp_path)
    exec(compile(example, "README.md", "exec"), {})
    assert capsys.readouterr().out == "(48, 64, 3) uint8\n"


@pytest.mark.parametrize("line", [line for line in COMMANDS if line.startswith("pipcli ")])
def test_commands_and_their_options_exist(line, capsys):
    command, *words = line.removeprefix("pipcli ").split()
    assert main([command, "--help"]) == 0
    text = capsys.readouterr().out
    for option in (word for word in words if word.startswith("--")):
        assert option in text


def test_every_command_says_in_one_line_what_it_does(monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "80")
    assert main(["--help"]) == 0
    lines = capsys.readouterr().out.split("Commands:\n")[1].splitlines()
    assert len(lines) >= 10
    assert [line for line in lines if not line.endswith(".") or line.endswith("...") or len(line) > 80] == []


@pytest.mark.parametrize("line", [line for line in COMMANDS if line.startswith("make ")])
def test_make_targets_exist(line):
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert re.search(rf"^{line.split()[1]}:", makefile, flags=re.MULTILINE)


def test_the_table_of_options_is_that_of_restore(capsys):
    assert main(["restore", "--help"]) == 0
    text = capsys.readouterr().out
    documented = re.findall(r"^\| `(--[a-z0-9-]+)` \|", README, flags=re.MULTILINE)
    assert documented
    assert [option for option in documented if option not in text] == []


def test_every_format_is_named():
    (line,) = re.findall(r"Formats: (.*?)\.", README)
    assert line.split(", ") == [format_.name for format_ in FORMATS]


def test_linked_files_are_there():
    links = re.findall(r"\]\((?!https?:)([^)#]+)\)", README)
    assert links
    assert [link for link in links if not (ROOT / link).exists()] == []


def test_every_photograph_of_the_demo_has_its_licence():
    licensed = re.findall(r"^\| `(\S+\.(?:png|jpg))` \|", README, flags=re.MULTILINE)
    assert sorted(licensed) == sorted(scene.photo for scene in SCENES)
