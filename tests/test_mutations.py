"""Damaged files through the whole command: no hang, no crash, no output without a readable input."""

from __future__ import annotations

import json
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from mutations import mutant, originals
from standins import contents, leftovers, start, write_weights

from pipcli.errors import ImageError
from pipcli.images import read_image
from pipcli.images.dicom import DicomImage, is_dicom_file
from pipcli.images.dicom_reading import read_dicom

A_FILE = 20.0
"""Seconds that no small file may take, on however slow a machine."""


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> Path:
    return write_weights(tmp_path_factory.mktemp("weights") / "tiny.safetensors")


def attack(weights: Path, folder: Path, seeds: range) -> tuple[int, int]:
    """Run the command over a mutant of every original for each seed; how many were made, and restored."""
    whole = originals(folder)
    for seed in seeds:
        for name, data in whole.items():
            path = folder / "in" / f"{seed}-{name}"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(mutant(data, f"{seed} {name}"))
    count = len(seeds) * len(whole)
    # A DICOM file that is none any more has a suffix that is no image's, and is left alone.
    process = start(weights, folder / "in", folder / "out", "--json")
    out, err = process.communicate(timeout=60 + A_FILE * count)
    check(folder, process.returncode, out.decode(), err.decode())
    return count, len(contents(folder / "out"))


def check(folder: Path, code: int, out: str, err: str) -> None:
    """Every file is accounted for, in the program's own words, and what was written can be read."""
    assert code in (0, 3, 4), err[-2000:]
    # Whatever is on stderr is a line of ours: no library's message, no traceback, no surprise.
    strangers = [line for line in err.splitlines() if not line.startswith("pipcli: ")]
    assert strangers == []
    assert [line for line in err.splitlines() if "internal error" in line] == []
    lines = {entry["input"]: entry for entry in map(json.loads, out.splitlines())}
    written = contents(folder / "out")
    inputs = {str(path) for path in (folder / "in").iterdir()}
    assert lines.keys() <= inputs
    assert all(".dcm" in name for name in inputs - lines.keys())
    assert leftovers(folder / "out") == []
    for name, entry in lines.items():
        source, target = Path(name), folder / "out" / Path(name).name
        assert (entry["output"] is None) == (target.name not in written), entry
        assert (entry["error"] is None) == (entry["output"] is not None or entry["left_alone"] is not None)
        if entry["output"] is not None:
            assert shape(source) == shape(target), entry
    assert len(written) == sum(entry["output"] is not None for entry in lines.values())


def shape(path: Path) -> tuple[int, ...]:
    """Pages or frames, height and width of a file that must be readable."""
    try:
        if is_dicom_file(path):
            scan = read_dicom(path)
            assert isinstance(scan, DicomImage)
            return scan.stored.shape
        image = read_image(path)
    except ImageError as error:
        raise AssertionError(f"was restored and cannot be read: {error}") from error
    return 1 + len(image.further), image.height, image.width


def test_damaged_files_neither_stop_a_run_nor_become_outputs(weights, tmp_path):
    made, restored = attack(weights, tmp_path, range(12))
    assert made >= 250
    # Some mutations leave a readable file, most do not: both must occur for this to mean something.
    assert 0.02 < restored / made < 0.9


@pytest.mark.slow
def test_twenty_thousand_damaged_files(weights, tmp_path):
    each = len(originals(tmp_path))
    turns = -(-20_000 // (each * 25))
    seeds = [range(1000 + 25 * turn, 1025 + 25 * turn) for turn in range(turns)]
    folders = [tmp_path / str(turn) for turn in range(turns)]
    for folder in folders:
        folder.mkdir()
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        results = list(pool.map(attack, [weights] * turns, folders, seeds))
    assert sum(made for made, _ in results) >= 20_000
