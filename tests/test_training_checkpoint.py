"""Checkpoints to resume from: in small files, and whole or not at all wherever a kill falls."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
import torch

from pipcli.errors import ModelError
from pipcli.training import checkpoint
from pipcli.training.checkpoint import load_checkpoint, save_checkpoint


class KilledError(BaseException):
    """Stands for SIGKILL: nothing catches it."""


def tensors(value: float, count: int = 3) -> dict[str, torch.Tensor]:
    return {f"layer.{i}": torch.full((4, 5), value + i) for i in range(count)}


def save(folder: Path, value: float) -> None:
    save_checkpoint(folder, tensors(value), {"step": int(value)})


def assert_whole(folder: Path, *values: float) -> float:
    """The checkpoint is one of those saved, with its own state; says which."""
    loaded, state = load_checkpoint(folder)
    value = float(state["step"])
    assert value in values
    expected = tensors(value)
    assert loaded.keys() == expected.keys()
    assert all(torch.equal(loaded[name], expected[name]) for name in expected)
    return value


def test_round_trip(tmp_path):
    generator = torch.Generator().manual_seed(0)
    saved = {
        "weight": torch.randn(6, 4, 3, 3, generator=generator).to(memory_format=torch.channels_last),
        "step": torch.tensor(7.0),
        "half": torch.randn(5, generator=generator).half(),
        "needs gradient": torch.nn.Parameter(torch.randn(2, generator=generator)),
    }
    save_checkpoint(tmp_path / "run", saved, {"step": 3, "best": 20.5, "minutes": 0.25})
    loaded, state = load_checkpoint(tmp_path / "run")
    assert state == {"step": 3, "best": 20.5, "minutes": 0.25}
    assert loaded.keys() == saved.keys()
    for name, tensor in saved.items():
        assert loaded[name].dtype == tensor.dtype
        assert torch.equal(loaded[name], tensor)


def test_files_stay_below_15_megabytes(tmp_path):
    many = {f"layer.{i:02}": torch.full((900, 1000), float(i)) for i in range(13)}
    save_checkpoint(tmp_path, many, {})
    files = sorted((tmp_path / "checkpoint").glob("*.safetensors"))
    sizes = [file.stat().st_size for file in files]
    assert max(sizes) < 15_000_000
    assert len(files) == 5
    loaded, _ = load_checkpoint(tmp_path)
    assert all(torch.equal(loaded[name], tensor) for name, tensor in many.items())


def test_a_newer_checkpoint_replaces_the_older_one(tmp_path):
    save_checkpoint(tmp_path, {f"layer.{i}": torch.zeros(1_000_000) for i in range(8)}, {"step": 0})
    save(tmp_path, 1.0)
    assert assert_whole(tmp_path, 1.0) == 1.0
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint"]


def killed_at(monkeypatch: pytest.MonkeyPatch, fatal: int) -> list[str]:
    """Make the ``fatal``-th change to the disk the last: it is done by half. Returns the changes done."""
    done: list[str] = []

    def counted(name, change, half):
        def act(*arguments, **options):
            done.append(name)
            if len(done) == fatal:
                half(*arguments)
                raise KilledError
            if len(done) > fatal:
                raise KilledError
            return change(*arguments, **options)

        return act

    def half_removed(folder, *_):
        files = sorted(Path(folder).glob("*"))
        for file in files[: (len(files) + 1) // 2]:
            file.unlink()

    monkeypatch.setattr(os, "replace", counted("replace", os.replace, lambda *_: None))
    monkeypatch.setattr(shutil, "rmtree", counted("remove", shutil.rmtree, half_removed))
    # That these files are whole or not there is held by test_atomic.py; here they may even be halves.
    write = counted("write", Path.write_bytes, lambda path, data: path.write_bytes(data[: len(data) // 2]))
    monkeypatch.setattr(checkpoint, "write_bytes", write)
    return done


@pytest.mark.parametrize("again", [False, True], ids=["once", "twice"])
def test_a_kill_at_any_moment_leaves_a_whole_checkpoint(tmp_path, monkeypatch, again):
    """``twice``: after a kill at any moment, the next attempt is killed at any moment too."""
    moments = 0
    while True:
        moments += 1
        for second in range(1, 10) if again else [0]:
            run = tmp_path / f"{moments}-{second}"
            save(run, 1.0)
            kept = 1.0
            survived = True
            for value, fatal in ((2.0, moments), (3.0, second))[: 2 if again else 1]:
                with monkeypatch.context() as patch:
                    killed_at(patch, fatal)
                    try:
                        save(run, value)
                    except KilledError:
                        survived = False
                kept = assert_whole(run, kept, value)
            save(run, 4.0)
            assert assert_whole(run, 4.0) == 4.0
            assert [path.name for path in run.iterdir()] == ["checkpoint"]
        if survived:
            break
    # The test is worth something only if it went through every change of the disk.
    assert moments >= 6


def test_shards_are_written_before_anything_old_is_touched(tmp_path, monkeypatch):
    save(tmp_path, 1.0)
    done = killed_at(monkeypatch, 100)
    save(tmp_path, 2.0)
    assert done == ["remove", "write", "write", "remove", "replace", "replace", "remove"]


def test_all_is_on_the_disk_before_anything_old_is_touched(tmp_path, monkeypatch):
    save(tmp_path, 1.0)
    calls: list[str] = []

    def noted(name, change):
        def act(*arguments):
            calls.append(name)
            return change(*arguments)

        return act

    monkeypatch.setattr(os, "fsync", noted("sync", os.fsync))
    monkeypatch.setattr(shutil, "rmtree", lambda folder, **_: calls.append("remove"))
    monkeypatch.setattr(os, "replace", noted("replace", os.replace))
    save(tmp_path, 2.0)
    # Two files, each with its folder's entry, then the old checkpoint's folder aside and the new one in.
    a_file = ["sync", "replace", "sync"]
    assert calls == ["remove", *a_file, *a_file, "remove", "replace", "replace", "sync", "remove"]


def test_no_checkpoint_is_said(tmp_path):
    with pytest.raises(ModelError, match=f"no checkpoint to resume from in {tmp_path}"):
        load_checkpoint(tmp_path)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda folder: (folder / "000.safetensors").write_bytes(b""),
        lambda folder: (folder / "000.safetensors").write_bytes(
            (folder / "000.safetensors").read_bytes()[:-9]
        ),
        lambda folder: (folder / "000.safetensors").write_text("nothing of the kind"),
        lambda folder: (folder / "state.json").write_text('{"step'),
        lambda folder: (folder / "state.json").write_bytes(b"\xff\xff"),
    ],
)
def test_damage_is_said(tmp_path, spoil):
    save(tmp_path, 1.0)
    spoil(tmp_path / "checkpoint")
    with pytest.raises(ModelError, match=r"checkpoint .* cannot be read"):
        load_checkpoint(tmp_path)


def test_the_size_of_a_shard_leaves_room_for_its_head():
    assert checkpoint.SHARD_BYTES < 14_900_000
