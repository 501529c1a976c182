"""Whole runs: every file right or accounted for, with a model that stands in for the trained ones."""

from __future__ import annotations

import errno
import math
import os
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image as PillowImage
from torch import Tensor, nn

from pipcli.batch import stages
from pipcli.batch.inputs import named_inputs
from pipcli.batch.keeping import Existing, Keeping, refuse_strangers
from pipcli.batch.ledger import Ledger, read_ledgers
from pipcli.batch.naming import NameTemplate
from pipcli.batch.outcome import Outcome, Summary
from pipcli.batch.plan import Plan, plan_batch
from pipcli.batch.run import finished_jobs, run_plan
from pipcli.batch.shards import Shard
from pipcli.degradations import Degradation, parse_passes
from pipcli.errors import DeviceError, ImageError, OutputError, UsageError
from pipcli.images import Image, Wishes
from pipcli.inference.decision import Decision, Told
from pipcli.inference.device import Precision
from pipcli.inference.engine import Restorer

CPU = torch.device("cpu")
DENOISE = Told(parse_passes("denoise"))


class Inverse(nn.Module):
    """y = 1 - x; pictures of the grey level `bad` come out as NaN in bf16, of `worse` in fp32 too."""

    stride = 1
    halo = 4
    degradations = (Degradation.NOISE,)
    bad, worse = 77, 78

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv2d(3, 3, 1)

    def forward(self, x: Tensor, omega: Tensor) -> Tensor:
        level = round(float(x[0, 0, 0, 0]) * 255)
        if level == self.worse or (level == self.bad and self.layer(x).dtype == torch.bfloat16):
            return x * math.nan
        return 1 - x


@pytest.fixture
def restorer():
    return Restorer(Inverse(), CPU, Precision.BF16)


def save(path: Path, level: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    PillowImage.new("RGB", (12, 8), (level, level, level)).save(path)


def level_of(path: Path) -> int:
    pixels = np.asarray(PillowImage.open(path))
    assert pixels.shape == (8, 12, 3)
    assert (pixels == pixels[0, 0]).all()
    return int(pixels[0, 0, 0])


def planned(tmp_path: Path) -> Plan:
    plan = plan_batch(str(tmp_path / "in"), str(tmp_path / "out"))
    plan.make_folders()
    return plan


def test_every_file_is_restored_into_the_same_tree(tmp_path, restorer):
    levels = {"a.png": 10, "b/c.png": 20, "b/d/e.png": 30}
    for name, level in levels.items():
        save(tmp_path / "in" / name, level)
    outcomes: list[Outcome] = []
    summary = run_plan(planned(tmp_path), restorer, DENOISE, on_outcome=outcomes.append)
    assert {name: level_of(tmp_path / "out" / name) for name in levels} == {
        name: 255 - level for name, level in levels.items()
    }
    assert (summary.restored, summary.failures, summary.unreached, summary.exit_code) == (3, (), 0, 0)
    assert [outcome.job.source.name for outcome in outcomes] == ["a.png", "c.png", "e.png"]
    assert all(outcome.error is None and outcome.seconds > 0 for outcome in outcomes)
    assert summary.seconds > 0


def test_nothing_to_do_is_well(tmp_path, restorer):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "notes.txt").write_text("no image")
    plan = planned(tmp_path)
    assert plan.left_alone == 1
    assert run_plan(plan, restorer, DENOISE).exit_code == 0


def test_a_bad_file_is_named_and_the_others_go_on(tmp_path, restorer):
    save(tmp_path / "in" / "1.png", 10)
    (tmp_path / "in" / "2.png").write_text("I am a text")
    (tmp_path / "in" / "3.jpg").write_bytes(b"")
    whole = (tmp_path / "in" / "1.png").read_bytes()
    (tmp_path / "in" / "4.png").write_bytes(whole[: len(whole) // 2])
    save(tmp_path / "in" / "5.png", Inverse.worse)
    save(tmp_path / "in" / "6.png", 50)
    outcomes: list[Outcome] = []
    summary = run_plan(planned(tmp_path), restorer, DENOISE, on_outcome=outcomes.append)
    assert [outcome.error is None for outcome in outcomes] == [True, False, False, False, False, True]
    assert summary.restored == 2
    assert summary.exit_code == 3
    assert len(summary.failures) == 4
    for number, failure in zip("2345", summary.failures, strict=True):
        assert failure.startswith(f"{tmp_path}/in/{number}.")
        assert failure.count(f"{number}.") == 1
        assert "\n" not in failure
    assert "not finite" in summary.failures[3]
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"1.png", "6.png"}


def test_all_failed(tmp_path, restorer):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "2.png").write_text("I am a text")
    assert run_plan(planned(tmp_path), restorer, DENOISE).exit_code == 4
    # Not all, where something was rightly left alone.
    (tmp_path / "in" / "notes.txt").write_text("no image")
    assert run_plan(planned(tmp_path), restorer, DENOISE).exit_code == 3


def test_a_folder_that_could_not_be_listed_is_a_failure(tmp_path, restorer):
    save(tmp_path / "in" / "a.png", 10)
    plan = replace(planned(tmp_path), unlisted={tmp_path / "in" / "secret": "cannot be listed"})
    summary = run_plan(plan, restorer, DENOISE)
    assert summary.failures == (f"{tmp_path}/in/secret: cannot be listed",)
    assert (summary.restored, summary.exit_code) == (1, 3)


def test_a_surprise_costs_one_file_only(tmp_path, restorer, monkeypatch):
    for name in ("a.png", "b.png", "c.png"):
        save(tmp_path / "in" / name, 10)
    real = stages.read_content

    def read(path: Path) -> bytes:
        if path.name == "a.png":
            raise ZeroDivisionError("a bug\nin a codec")
        if path.name == "b.png":
            raise MemoryError
        return real(path)

    monkeypatch.setattr(stages, "read_content", read)
    summary = run_plan(planned(tmp_path), restorer, DENOISE)
    assert summary.restored == 1
    assert summary.failures == (
        f"{tmp_path}/in/a.png: internal error: ZeroDivisionError: a bug in a codec",
        f"{tmp_path}/in/b.png: does not fit into memory",
    )


@pytest.mark.parametrize(
    ("problem", "code"),
    [
        (OutputError("out/b.png: cannot be written: No space left on device"), 7),
        (DeviceError("out of memory: a tile of 512×512 does not fit"), 6),
    ],
)
def test_what_concerns_all_files_stops_the_run(tmp_path, restorer, monkeypatch, problem, code):
    for name in ("a.png", "b.png", "c.png", "d.png"):
        save(tmp_path / "in" / name, 10)
    real = stages.encode_for

    def encode(image: Image, path: Path, *others: object) -> bytes:
        if path.name == "b.png":
            raise problem
        return real(image, path, *others)

    monkeypatch.setattr(stages, "encode_for", encode)
    summary = run_plan(planned(tmp_path), restorer, DENOISE)
    assert summary.exit_code == code
    assert summary.failures == (str(problem),)
    # What was under way when it failed may still be written.
    assert 1 <= summary.restored == 3 - summary.unreached
    assert len(list((tmp_path / "out").iterdir())) == summary.restored


@pytest.mark.parametrize("number", [errno.ENAMETOOLONG, errno.EPERM, errno.EINVAL])
def test_a_name_that_the_file_system_does_not_take_is_that_files_failure(
    tmp_path, restorer, monkeypatch, number
):
    for name in ("a.png", "b.png", "c.png"):
        save(tmp_path / "in" / name, 10)
    real = os.replace

    def replace(source: Path, target: Path) -> None:
        if Path(target).name == "b.png":
            raise OSError(number, os.strerror(number))
        real(source, target)

    monkeypatch.setattr(os, "replace", replace)
    summary = run_plan(planned(tmp_path), restorer, DENOISE)
    assert summary.failures == (f"{tmp_path}/out/b.png: cannot be written: {os.strerror(number)}",)
    assert (summary.exit_code, summary.restored, summary.unreached) == (3, 2, 0)


def test_an_image_the_format_cannot_hold_is_that_files_failure(tmp_path, restorer, monkeypatch):
    save(tmp_path / "in" / "a.png", 10)

    def encode(image: Image, path: Path, *others: object) -> bytes:
        raise ImageError(f"{path}: a JPEG holds 8 bits")

    monkeypatch.setattr(stages, "encode_for", encode)
    assert run_plan(planned(tmp_path), restorer, DENOISE).exit_code == 4


def test_what_could_not_be_written_is_not_computed(tmp_path, restorer, monkeypatch):
    source, target = tmp_path / "a.png", tmp_path / "a.jpg"
    PillowImage.new("RGBA", (12, 8), (10, 20, 30, 40)).save(source)
    monkeypatch.setattr(Inverse, "forward", lambda *_: pytest.fail("computed"))
    summary = run_plan(plan_batch(str(source), str(target)), restorer, DENOISE)
    assert summary.failures == (f"{source}: {target}: JPEG cannot hold transparency",)
    assert not target.exists()


def test_redone_tiles_are_counted_and_told(tmp_path, restorer):
    save(tmp_path / "in" / "a.png", 10)
    save(tmp_path / "in" / "b.png", Inverse.bad)
    outcomes: list[Outcome] = []
    summary = run_plan(planned(tmp_path), restorer, DENOISE, on_outcome=outcomes.append)
    assert (summary.redone, summary.exit_code) == (1, 0)
    assert [outcome.redone for outcome in outcomes] == [0, 1]
    assert outcomes[0].warnings == ()
    assert outcomes[1].warnings == ("1 result not finite or absurd in bf16, redone in fp32",)
    assert level_of(tmp_path / "out" / "b.png") == 255 - Inverse.bad


def test_notes_of_reading_become_warnings(tmp_path, restorer):
    (tmp_path / "in").mkdir()
    PillowImage.new("P", (12, 8)).save(tmp_path / "in" / "a.png")
    outcomes: list[Outcome] = []
    run_plan(planned(tmp_path), restorer, DENOISE, on_outcome=outcomes.append)
    assert outcomes[0].warnings == ("palette image read as RGB",)


def test_an_interrupted_run_finishes_the_file_in_hand(tmp_path, restorer, monkeypatch):
    for name in ("a.png", "b.png", "c.png"):
        save(tmp_path / "in" / name, 10)
    real, computed = restorer.restore, []

    def restore(image: Image, *arguments: object) -> Image:
        computed.append(image)
        return real(image, *arguments)

    monkeypatch.setattr(restorer, "restore", restore)
    summary = run_plan(planned(tmp_path), restorer, DENOISE, stopping=lambda: len(computed) == 2)
    assert (summary.restored, summary.unreached, summary.interrupted) == (2, 1, True)
    assert summary.exit_code == 130
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"a.png", "b.png"}


def test_strength_is_passed_on(tmp_path, restorer):
    save(tmp_path / "in" / "a.png", 100)
    run_plan(planned(tmp_path), restorer, DENOISE, strength=0.25)
    assert level_of(tmp_path / "out" / "a.png") == round(100 + 0.25 * (155 - 100))


class Night:
    """The same command, night after night, and which files it restored."""

    def __init__(self, folder: Path, restorer: Restorer) -> None:
        self.folder, self.restorer = folder, restorer

    def run(
        self,
        strength: float = 1.0,
        model: str = "m1",
        existing: Existing = Existing.RESUME,
        preserve_times: bool = False,
    ) -> tuple[set[str], Summary]:
        ledger, outcomes = Ledger(), []
        plan = plan_batch(str(self.folder / "in"), str(self.folder / "out"))
        if existing is Existing.RESUME:
            refuse_strangers(plan, ledger)
        plan.make_folders()
        keeping = Keeping(ledger, model, existing, preserve_times)
        summary = run_plan(plan, self.restorer, DENOISE, strength, outcomes.append, keeping=keeping)
        return {each.job.relative for each in outcomes if not each.kept and each.error is None}, summary


@pytest.fixture
def night(tmp_path, restorer):
    for name in ("a.png", "b/c.png", "d.png"):
        save(tmp_path / "in" / name, 10)
    return Night(tmp_path, restorer)


EVERY = {"a.png", "b/c.png", "d.png"}


def test_the_ledger_tells_what_was_made_of_each_file(night, tmp_path):
    (tmp_path / "in" / "e.png").write_text("I am a text")
    night.run(strength=0.5)
    entries = read_ledgers(tmp_path / "out")
    assert set(entries) == {*EVERY, "e.png"}
    (entry,) = entries["b/c.png"]
    # Independent of the code's own hashing.
    said = subprocess.run(
        ["sha256sum", tmp_path / "in" / "b" / "c.png", tmp_path / "out" / "b" / "c.png"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert [line.split()[0] for line in said.stdout.splitlines()] == [entry.input_sha256, entry.output_sha256]
    assert (entry.model_sha256, entry.input, entry.error) == ("m1", "b/c.png", None)
    assert entry.parameters == {
        "omega": {"noise": 1.0},
        "strength": 0.5,
        "tile": 512,
        "batch": 1,
        "device": "cpu",
        "precision": "bf16",
    }
    assert entry.seconds >= 0
    (failed,) = entries["e.png"]
    assert (failed.output_sha256, failed.error) == (
        None,
        f"{tmp_path}/in/e.png: is no image of a known format",
    )


def test_the_same_command_keeps_what_is_finished(night, tmp_path):
    assert night.run()[0] == EVERY
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*.png")}
    done, summary = night.run()
    assert done == set()
    assert (summary.restored, summary.kept, summary.exit_code) == (0, 3, 0)
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*.png")} == before


def test_what_changed_is_done_again_and_no_more(night, tmp_path):
    night.run()
    save(tmp_path / "in" / "a.png", 20)
    (tmp_path / "out" / "b" / "c.png").write_bytes(b"half")
    save(tmp_path / "in" / "new.png", 30)
    assert night.run()[0] == {"a.png", "b/c.png", "new.png"}
    assert level_of(tmp_path / "out" / "a.png") == 235
    assert level_of(tmp_path / "out" / "b" / "c.png") == 245
    (tmp_path / "out" / "d.png").unlink()
    assert night.run()[0] == {"d.png"}
    assert night.run()[0] == set()


def test_another_model_or_strength_does_all_again(night):
    night.run()
    assert night.run(strength=0.5)[0] == EVERY
    assert night.run(strength=0.5, model="m2")[0] == EVERY
    assert night.run(strength=0.5, model="m2")[0] == set()
    # What stands there is of the last command, so the first one's lines do not fit any more.
    assert night.run()[0] == EVERY


def test_failures_are_tried_again(night, tmp_path):
    (tmp_path / "in" / "e.png").write_text("I am a text")
    assert night.run()[1].exit_code == 3
    done, summary = night.run()
    assert (done, summary.kept, summary.exit_code) == (set(), 3, 3)
    save(tmp_path / "in" / "e.png", 40)
    assert night.run()[0] == {"e.png"}


def test_a_killed_run_is_taken_up(night, tmp_path, monkeypatch):
    # Killed after the ledger's line and before the file: the line alone must not count.
    class Killed(BaseException):
        pass

    def die(*_: object) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(stages, "write_bytes", die)
        with pytest.raises(Killed):
            night.run()
    ledger = tmp_path / "out" / ".pipcli" / "ledger.jsonl"
    assert len(ledger.read_text().splitlines()) >= 1
    assert list((tmp_path / "out").rglob("*.png")) == []
    # And killed within a line.
    ledger.write_text(ledger.read_text() + '{"input":"b/c.p')
    assert night.run()[0] == EVERY
    assert night.run()[0] == set()


def test_overwrite_does_all_again_and_skip_existing_looks_at_nothing(night, tmp_path):
    night.run()
    assert night.run(existing=Existing.OVERWRITE)[0] == EVERY
    save(tmp_path / "in" / "a.png", 20)
    (tmp_path / "out" / "b" / "c.png").write_bytes(b"mine")
    (tmp_path / "out" / "d.png").unlink()
    assert night.run(existing=Existing.SKIP)[0] == {"d.png"}
    assert (tmp_path / "out" / "b" / "c.png").read_bytes() == b"mine"


def test_files_of_others_are_not_replaced_unless_asked(night, tmp_path):
    (tmp_path / "out" / "b").mkdir(parents=True)
    (tmp_path / "out" / "a.png").write_bytes(b"")
    assert night.run(existing=Existing.SKIP)[0] == {"b/c.png", "d.png"}
    (tmp_path / "out" / "b" / "c.png").unlink()
    assert night.run()[0] == {"a.png", "b/c.png"}, "an empty file holds nothing that could be lost"
    save(tmp_path / "in" / "mine.png", 40)
    (tmp_path / "out" / "mine.png").write_bytes(b"mine")
    with pytest.raises(UsageError, match=r"out/mine\.png: is there already, not from an earlier run"):
        night.run()
    assert (tmp_path / "out" / "mine.png").read_bytes() == b"mine"
    assert night.run(existing=Existing.OVERWRITE)[0] == {*EVERY, "mine.png"}


def test_a_file_of_which_the_ledger_tells_a_failure_alone_is_of_others(night, tmp_path):
    (tmp_path / "in" / "e.png").write_text("I am a text")
    assert night.run()[1].exit_code == 3
    (tmp_path / "out" / "e.png").write_bytes(b"made by hand")
    save(tmp_path / "in" / "e.png", 40)
    with pytest.raises(UsageError, match=r"out/e\.png: is there already, not from an earlier run"):
        night.run()
    assert (tmp_path / "out" / "e.png").read_bytes() == b"made by hand"


def test_times_are_those_of_the_input_where_asked(night, tmp_path):
    os.utime(tmp_path / "in" / "a.png", ns=(10**18, 10**18 + 1))
    night.run(preserve_times=True)
    assert (tmp_path / "out" / "a.png").stat().st_mtime_ns == 10**18 + 1
    night.run(existing=Existing.OVERWRITE)
    assert (tmp_path / "out" / "a.png").stat().st_mtime_ns != 10**18 + 1


def test_a_ledger_that_cannot_be_written_stops_the_run_before_a_file_is_placed(night, tmp_path):
    (tmp_path / "out" / ".pipcli" / "ledger.jsonl").mkdir(parents=True)
    for existing in (Existing.RESUME, Existing.OVERWRITE):
        summary = night.run(existing=existing)[1]
        assert summary.exit_code == 7
        assert "Is a directory" in summary.failures[0]
        assert list((tmp_path / "out").rglob("*.png")) == []


def restore_in_place(
    folder: Path,
    restorer: Restorer,
    strength: float = 1.0,
    model: str = "m1",
    existing: Existing = Existing.RESUME,
) -> Summary:
    plan, keeping = plan_batch(named_inputs([str(folder)]), None), Keeping(Ledger(), model, existing)
    return run_plan(plan, restorer, DENOISE, strength, keeping=keeping)


def test_in_place_twice_restores_once(night, tmp_path, restorer):
    folder = tmp_path / "in"
    (folder / "a.png").chmod(0o640)
    assert restore_in_place(folder, restorer).restored == 3
    assert level_of(folder / "b" / "c.png") == 245
    summary = restore_in_place(folder, restorer)
    assert (summary.restored, summary.kept) == (0, 3)
    assert level_of(folder / "b" / "c.png") == 245
    assert (folder / "a.png").stat().st_mode & 0o777 == 0o640
    save(folder / "d.png", 20)
    assert restore_in_place(folder, restorer).restored == 1
    assert level_of(folder / "d.png") == 235


def test_in_place_other_settings_do_not_restore_a_second_time(night, tmp_path, restorer):
    folder = tmp_path / "in"
    restore_in_place(folder, restorer)
    restored = contents(folder)
    save(folder / "d.png", 20)
    small, fp32 = restorer.reshaped(tile=256), Restorer(Inverse(), CPU, Precision.FP32)
    for index, settings in enumerate(((small,), (fp32,), (restorer, 0.5), (restorer, 1.0, "m2"))):
        summary = restore_in_place(folder, *settings)
        # What is no output of ours is done once, with the first of them.
        assert (summary.restored, summary.kept) == ((1, 2) if index == 0 else (0, 3))
        assert summary.kept_otherwise == (3 if index else 2)
        assert contents(folder) == restored | {"d.png": contents(folder)["d.png"]}
    assert level_of(folder / "d.png") == 235
    assert restore_in_place(folder, restorer).kept_otherwise == 1
    again = restore_in_place(folder, restorer, model="m2", existing=Existing.OVERWRITE)
    assert (again.restored, again.kept_otherwise) == (3, 0)
    assert level_of(folder / "a.png") == 10


def test_in_place_what_was_left_as_it_was_can_still_be_restored(night, tmp_path, restorer):
    folder = tmp_path / "in"
    plan, keeping = plan_batch(named_inputs([str(folder)]), None), Keeping(Ledger(), "m1")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Told, "decide", lambda self, image, degradations: Decision(()))
        assert run_plan(plan, restorer, DENOISE, keeping=keeping).untouched == 3
    summary = restore_in_place(folder, restorer, strength=0.5)
    assert (summary.restored, summary.kept) == (3, 0)


@pytest.mark.parametrize("step", ["before", "after"])
def test_in_place_killed_around_the_rename_neither_loses_nor_restores_twice(
    night, tmp_path, restorer, monkeypatch, step
):
    class Killed(BaseException):
        pass

    real = os.replace

    def replace_and_die(source: Path, target: Path) -> None:
        if step == "after":
            real(source, target)
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", replace_and_die)
        with pytest.raises(Killed):
            restore_in_place(tmp_path / "in", restorer)
    assert level_of(tmp_path / "in" / "a.png") == (10 if step == "before" else 245)
    restore_in_place(tmp_path / "in", restorer)
    assert {level_of(tmp_path / "in" / name) for name in EVERY} == {245}


def test_a_file_that_vanishes_is_one_that_cannot_be_read(night, tmp_path, restorer, monkeypatch):
    real = stages.read_content

    def read_and_lose(path: Path) -> bytes:
        content = real(path)
        if path.name == "a.png":
            path.unlink()
        return content

    monkeypatch.setattr(stages, "read_content", read_and_lose)
    summary = night.run(preserve_times=True)[1]
    assert summary.failures == (f"{tmp_path}/in/a.png: cannot be read: No such file or directory",)
    assert summary.restored == 2


def test_shards_make_what_one_run_makes_and_their_ledgers_merge(night, tmp_path, restorer):
    for index in range(12):
        save(tmp_path / "in" / f"{index}.png", 2 * index)
    for index in (1, 2, 3):
        share = Shard(index, 3)
        plan = share.of(plan_batch(str(tmp_path / "in"), str(tmp_path / "out")))
        plan.make_folders()
        done = run_plan(plan, restorer, DENOISE, keeping=Keeping(Ledger(share.name), "m1"))
        assert 0 < done.restored == len(plan.jobs) < 15
    sharded = contents(tmp_path / "out")
    done, summary = night.run()
    assert (done, summary.kept) == (set(), 15), "the run over all finds every shard's files finished"
    night.run(existing=Existing.OVERWRITE)
    assert contents(tmp_path / "out") == sharded


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*.png")}


def test_what_is_finished_can_be_asked_without_doing_anything(night, tmp_path, restorer):
    def finished(existing: Existing = Existing.RESUME) -> set[str]:
        plan = plan_batch(str(tmp_path / "in"), str(tmp_path / "out"))
        keeping = Keeping(Ledger(), "m1", existing)
        return {job.relative for job in finished_jobs(plan, restorer, DENOISE, 1.0, None, keeping)}

    assert finished() == set()
    night.run()
    save(tmp_path / "in" / "a.png", 99)
    assert finished() == {"b/c.png", "d.png"}
    assert finished(Existing.OVERWRITE) == set()
    assert finished(Existing.SKIP) == EVERY


def test_a_missing_file_of_a_list_fails_alone(night, tmp_path, restorer, monkeypatch):
    monkeypatch.chdir(tmp_path)
    plan = plan_batch(named_inputs([], [b"in/a.png", b"in/none.png"]), "listed")
    plan.make_folders()
    keeping = Keeping(Ledger(), "m1", Existing.RESUME, preserve_times=True)
    summary = run_plan(plan, restorer, DENOISE, keeping=keeping)
    assert summary.failures == ("in/none.png: cannot be read: No such file or directory",)
    assert (summary.exit_code, level_of(Path("listed/in/a.png"))) == (3, 245)


def test_what_is_wished_of_files_is_done_noted_and_part_of_the_recipe(night, tmp_path, restorer):
    def run(quality: int) -> Summary:
        wishes = Wishes(format_name="jpg", quality=quality)
        template = NameTemplate(format_=wishes.format)
        plan = plan_batch(str(tmp_path / "in"), str(tmp_path / "out"), template)
        plan.make_folders()
        return run_plan(plan, restorer, DENOISE, keeping=Keeping(Ledger(), "m1"), wishes=wishes)

    assert run(50).restored == 3
    assert {name[:3] for name in (path.read_bytes() for path in (tmp_path / "out").rglob("*.jpg"))} == {
        b"\xff\xd8\xff"
    }
    ((entry,), *_) = read_ledgers(tmp_path / "out").values()
    assert (entry.parameters["format_name"], entry.parameters["quality"]) == ("jpg", 50)
    assert (run(50).kept, run(90).kept) == (3, 0)
