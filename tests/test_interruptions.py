"""Runs that are killed, stopped or out of disk: nothing is lost or seen in part, and the next goes on."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as PillowImage
from standins import contents, leftovers, start, words, write_weights

from pipcli.cli import main

FILES = 40
PATIENCE = 240.0


def write_pictures(folder: Path, count: int = FILES) -> Path:
    """Photographs in three folders and three formats."""
    random_numbers = np.random.default_rng(1)
    for index in range(count):
        pixels = random_numbers.integers(0, 256, (48, 64 + index, 3), dtype=np.uint8)
        suffix = (".png", ".jpg", ".tif")[index % 3]
        path = folder / ("", "a", "a/b")[index % 3] / f"{index}{suffix}"
        path.parent.mkdir(parents=True, exist_ok=True)
        PillowImage.fromarray(pixels).save(path)
    return folder


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> Path:
    return write_weights(tmp_path_factory.mktemp("weights") / "tiny.safetensors")


@pytest.fixture(scope="module")
def pictures(tmp_path_factory) -> Path:
    return write_pictures(tmp_path_factory.mktemp("pictures") / "in")


@pytest.fixture(scope="module")
def expected(weights, pictures) -> dict[str, bytes]:
    """What an uninterrupted run makes."""
    out = pictures.parent / "whole"
    assert run(weights, pictures, out) == 0
    made = contents(out)
    assert made.keys() == contents(pictures).keys()
    return made


def run(weights: Path, *arguments: str | Path) -> int:
    """The command to its end, in this process."""
    return main(words(weights, *arguments, "--quiet"))


def interrupt(process: subprocess.Popen[bytes], out: Path, number: int, after: int, expected) -> int:
    """Send a signal once so many results can be seen; all that can be seen until then must be whole."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline and process.poll() is None:
        seen = contents(out)
        assert all(expected[name] == data for name, data in seen.items())
        if len(seen) >= after:
            process.send_signal(number)
            break
    process.communicate(timeout=PATIENCE)
    return process.returncode


def survive(weights: Path, pictures: Path, out: Path, signals: list[int], expected: dict[str, bytes]) -> None:
    """Interrupt one run after the other, each a little later; then let one end, and compare."""
    moments = random.Random(7)
    for turn, number in enumerate(signals):
        reached = len(contents(out))
        after = min(FILES, reached + moments.randint(1, max(1, (FILES - reached) // (len(signals) - turn))))
        code = interrupt(start(weights, pictures, out), out, number, after, expected)
        # It may have come to its end before the signal reached it.
        assert code in ((-signal.SIGKILL, 0) if number == signal.SIGKILL else (130, 0))
        assert all(expected[name] == data for name, data in contents(out).items())
    assert run(weights, pictures, out) == 0
    assert contents(out) == expected
    assert leftovers(out) == []


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
def test_killed_and_stopped_runs_end_in_the_tree_of_one_run(weights, pictures, expected, tmp_path):
    survive(weights, pictures, tmp_path / "out", [signal.SIGKILL, signal.SIGTERM], expected)


@pytest.mark.slow
def test_killed_thirty_times(weights, pictures, expected, tmp_path):
    survive(weights, pictures, tmp_path / "out", [signal.SIGKILL] * 30, expected)


@pytest.fixture
def small_disk(tmp_path) -> Iterator[Path]:
    """A file system of 96 KiB of its own."""
    disk = tmp_path / "disk"
    disk.mkdir()
    if not mount("-t", "tmpfs", "-o", "size=96k", "tmpfs", str(disk)):
        pytest.skip("file systems cannot be mounted here")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


def mount(*arguments: str) -> bool:
    try:
        return subprocess.run(["mount", *arguments], capture_output=True).returncode == 0
    except FileNotFoundError:
        return False


def test_a_full_disk_loses_nothing_and_the_run_goes_on_when_there_is_room(
    weights, pictures, expected, small_disk, capsys
):
    out = small_disk / "out"
    assert run(weights, pictures, out) == 7
    assert "No space left on device" in capsys.readouterr().err
    seen = contents(out)
    assert 0 < len(seen) < FILES
    assert all(expected[name] == data for name, data in seen.items())
    assert leftovers(out) == []
    assert mount("-o", "remount,size=8m", str(small_disk))
    assert run(weights, pictures, out) == 0
    assert contents(out) == expected


def test_a_full_disk_loses_nothing_in_place(weights, small_disk, capsys):
    folder = write_pictures(small_disk / "in", 3)
    before = contents(folder)
    filler = small_disk / "filler"
    with filler.open("wb", buffering=0) as file:
        try:
            while file.write(bytes(1024)):
                pass
        except OSError:
            pass
    assert run(weights, folder, "--in-place") == 7
    assert "No space left on device" in capsys.readouterr().err
    assert contents(folder) == before
    assert leftovers(folder) == []


def test_a_read_only_disk_is_told_before_anything_is_done(weights, pictures, small_disk, capsys):
    out = small_disk / "out"
    out.mkdir()
    (out / "mine.txt").write_text("mine")
    assert mount("-o", "remount,ro", str(small_disk))
    assert run(weights, pictures, out) == 7
    assert "cannot be written to" in capsys.readouterr().err
    assert contents(out) == {"mine.txt": b"mine"}
