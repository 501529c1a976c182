"""Long runs: memory stays flat, and reading and writing cost next to nothing beside the model."""

from __future__ import annotations

import shutil
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as PillowImage
from standins import contents, start, write_weights

from pipcli.batch.keeping import Keeping
from pipcli.batch.ledger import Ledger
from pipcli.batch.plan import plan_batch
from pipcli.batch.run import run_plan
from pipcli.degradations import parse_passes
from pipcli.errors import ModelError
from pipcli.images import read_image
from pipcli.inference.decision import Told
from pipcli.models import zoo

MIB = 2**20
DENOISE = Told(parse_passes("denoise"))
SLACK = 48 * MIB
"""What an allocator may keep more at the end than after the first fifth."""


def resident(process: int) -> int:
    """Bytes of memory that a process holds."""
    fields = Path(f"/proc/{process}/statm").read_text().split()
    return int(fields[1]) * 4096


def watch(folder: Path, count: int) -> tuple[int, int]:
    """Restore so many files; the most memory after the first fifth of them, and at the end."""
    weights = write_weights(folder / "tiny.safetensors")
    numbers = np.random.default_rng(5)
    original = folder / "original.png"
    PillowImage.fromarray(numbers.integers(0, 256, (64, 96, 3), dtype=np.uint8)).save(original)
    source = folder / "in"
    for index in range(count):
        place = source / str(index // 500)
        place.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(original, place / f"{index}.png")
    process = start(weights, source, folder / "out", "--quiet")
    ledger = folder / "out" / ".pipcli" / "ledger.jsonl"
    early = late = 0
    while process.poll() is None:
        try:
            done, memory = ledger.read_bytes().count(b"\n"), resident(process.pid)
        except OSError:  # not begun, or just ended
            continue
        if done <= count // 5:
            early = max(early, memory)
        elif memory:
            late = max(late, memory)
        time.sleep(0.2)
    _, err = process.communicate()
    assert (process.returncode, err) == (0, b"")
    assert len(contents(folder / "out")) == count
    return early, late


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="no /proc on this system")
def test_memory_stays_flat_over_five_thousand_files(tmp_path):
    early, late = watch(tmp_path, 5000)
    print(f"memory: {early / MIB:.0f} MiB after 1000 files, at most {late / MIB:.0f} MiB after that")
    assert 0 < late <= early + SLACK


@pytest.mark.slow
def test_reading_and_writing_hide_behind_the_model(tmp_path):
    """On a quiet machine: 200 photos of 500×375 take at most 1.15 times what the model alone takes."""
    from pipcli.inference.device import choose_device, choose_precision
    from pipcli.inference.engine import Restorer

    device = choose_device("auto")
    try:
        restorer = Restorer(zoo.load_model(), device, choose_precision("auto", device))
    except ModelError as error:
        pytest.skip(f"no trained weights: {error}")
    numbers = np.random.default_rng(6)
    (tmp_path / "in").mkdir()
    for index in range(200):
        small = PillowImage.fromarray(numbers.integers(0, 256, (24, 32, 3), dtype=np.uint8))
        photo = np.asarray(small.resize((500, 375), PillowImage.Resampling.BICUBIC)).astype(float)
        noisy = np.clip(photo + numbers.normal(0, 15, photo.shape), 0, 255).astype(np.uint8)
        PillowImage.fromarray(noisy).save(tmp_path / "in" / f"{index}.jpg", quality=92)
    omega = tuple(float(index == 0) for index in range(len(restorer.degradations)))
    images = [read_image(path) for path in sorted((tmp_path / "in").iterdir())]
    restorer.restore(images[0], omega)  # the first call is slower than all others

    begin = time.monotonic()
    for image in images:
        restorer.restore(image, omega)
    alone = time.monotonic() - begin
    plan = plan_batch(str(tmp_path / "in"), str(tmp_path / "out"))
    plan.make_folders()
    begin = time.monotonic()
    summary = run_plan(plan, restorer, DENOISE, keeping=Keeping(Ledger(), "model"))
    together = time.monotonic() - begin
    assert summary.restored == 200
    print(f"model alone {alone:.1f} s, whole run {together:.1f} s: {together / alone:.3f} times")
    assert together <= 1.15 * alone
