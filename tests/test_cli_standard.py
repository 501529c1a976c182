"""Standard streams that are closed, full or not to be read: told where it matters, and nothing is spoilt."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as PillowImage
from standins import contents, words, write_weights

from pipcli.cli import main

FULL = pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full on this system")


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> Path:
    return write_weights(tmp_path_factory.mktemp("weights") / "tiny.safetensors")


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """The working folder, with in/0.png and in/1.png, larger than what is buffered."""
    monkeypatch.chdir(tmp_path)
    Path("in").mkdir()
    random_numbers = np.random.default_rng(0)
    for index in range(2):
        pixels = random_numbers.integers(0, 256, (64, 64, 3), dtype=np.uint8)
        PillowImage.fromarray(pixels).save(f"in/{index}.png")
    return tmp_path


def run(redirected: str, *arguments: str) -> subprocess.CompletedProcess[bytes]:
    """The command as a shell starts it, with such redirections."""
    return subprocess.run(
        ["sh", "-c", f'exec "$0" -m pipcli "$@" {redirected}', sys.executable, *arguments],
        capture_output=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )


def test_with_stderr_closed_only_the_image_comes_out(folder, weights):
    done = run("2>&- < in/0.png", *words(weights, "-", "-"))
    assert done.returncode == 0
    assert PillowImage.open(io.BytesIO(done.stdout)).size == (64, 64)
    assert done.stdout.endswith(b"IEND\xaeB`\x82")
    assert run("2>&-", *words(weights, "none.png", "out")).stdout == b""


def test_with_all_closed_all_is_done_and_no_file_takes_their_place(folder, weights):
    assert run("<&- >&- 2>&-", *words(weights, "in", "out"), "--json").returncode == 0
    assert main(words(weights, "in", "open", "--quiet")) == 0
    assert contents(Path("out")) == contents(Path("open"))
    ledger = Path("out/.pipcli/ledger.jsonl").read_bytes()
    assert ledger.count(b"\n") == ledger.count(b'{"input":') == 2


def test_with_stdin_closed_there_is_no_image(weights, monkeypatch, capsys):
    monkeypatch.setattr(sys, "stdin", None)
    assert main(words(weights, "-", "-")) == 4
    sys.stdin.close()
    assert capsys.readouterr() == ("", "pipcli: error: standard input: is empty\n")


def test_what_cannot_be_read_from_is_told(folder):
    done = run("0> file", "restore", "out", "--files0-from", "-", "--task", "denoise")
    assert (done.returncode, done.stdout) == (2, b"")
    assert done.stderr.startswith(b"pipcli: error: standard input: cannot be read: ")
    assert done.stderr.count(b"\n") == 1


def test_an_encoding_that_lacks_characters_is_no_traceback(folder, weights, monkeypatch):
    Path("in/0.png").rename("in/ä×.png")
    stdout = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", stdout)
    assert main(words(weights, "in", "out", "--dry-run")) == 0
    assert b"in/\\xe4\\xd7.png -> out/\\xe4\\xd7.png" in stdout.buffer.getvalue()


@FULL
def test_a_full_disk_leaves_nothing_for_the_end():
    done = run("> /dev/full", "--version")
    assert done.returncode == 7
    assert done.stderr == b"pipcli: error: standard output: cannot be written: No space left on device\n"


@FULL
@pytest.mark.parametrize(
    "arguments",
    [["--help"], ["in/0.png", "-"], ["in", "out", "--json"], ["in", "out", "--dry-run"]],
    ids=" ".join,
)
def test_a_full_disk_behind_stdout_is_told(folder, weights, monkeypatch, capsys, arguments):
    with open("/dev/full", "w") as full:
        monkeypatch.setattr(sys, "stdout", full)
        command = arguments if arguments == ["--help"] else words(weights, *arguments, "--quiet")
        assert main(command) == 7
    err = capsys.readouterr().err
    assert err == "pipcli: error: standard output: cannot be written: No space left on device\n"


@FULL
def test_a_full_disk_behind_a_log_costs_no_file(folder, weights, monkeypatch):
    with open("/dev/full", "w", buffering=1) as full:
        monkeypatch.setattr(sys, "stderr", full)
        assert main(words(weights, "in", "out")) == 0
    assert contents(Path("out")).keys() == {"0.png", "1.png"}
