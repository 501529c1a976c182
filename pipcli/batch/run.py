"""Restoring what a plan lists; a bad file is recorded and the rest go on."""

from __future__ import annotations

import math
import os
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field, replace
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipcli.batch.ledger import Entry, Ledger, Recipe, as_recorded, hash_bytes, hash_file
from pipcli.batch.pipeline import Limits, overlapped
from pipcli.batch.plan import Job, Plan
from pipcli.batch.slices import (
    DicomOptions,
    Treatment,
    divided_series,
    incomplete_series,
    series_id,
    treat_dicom,
)
from pipcli.errors import DeviceError, ImageError, OutputError, PipcliError, UsageError
from pipcli.images import MAX_PIXELS, Image, decode_image
from pipcli.images.atomic import write_bytes
from pipcli.images.naming import shown
from pipcli.images.reading import read_content
from pipcli.images.sizes import size_of
from pipcli.images.writing import Wishes, encode_for, stays_as_wished
from pipcli.inference.decision import CLEAN

if TYPE_CHECKING:
    from pipcli.inference.decision import Choice, Decision
    from pipcli.inference.engine import Redo, Restorer

SOME_FAILED, ALL_FAILED, INTERRUPTED = 3, 4, 130


DIVIDED = "in tiles, of which this model's blocks see one at a time: with a larger --tile it sees more"
"""The warning of an image that :meth:`pipcli.inference.engine.Restorer.divides`."""


class Existing(Enum):
    """What is done about outputs that are there already."""

    RESUME = "what the ledger shows as finished is kept, all else of this program is made again"
    OVERWRITE = "everything is made again, and replaces whatever is there"
    SKIP = "whatever is there is kept"


@dataclass(frozen=True)
class Keeping:
    """How a run keeps account of its files.

    Attributes:
        ledger: where it is noted what was made of each.
        model_sha256: of the weights file, to be noted.
        existing: what is done about outputs that are there.
        preserve_times: outputs take their inputs' times of last access and change.
    """

    ledger: Ledger
    model_sha256: str
    existing: Existing = Existing.RESUME
    preserve_times: bool = False


@dataclass(frozen=True)
class Outcome:
    """What became of one job.

    Attributes:
        job: the job.
        seconds: of reading, computing and writing.
        error: why there is no output, one line that names the file; None when it was restored.
        warnings: what the user should know of a restored file, a phrase each.
        redone: tiles, or the prompts of an image, that the numeric guard computed again.
        left_alone: why a DICOM file was not restored, though nothing is wrong with it; None where it was.
        copied: it was left alone and copied.
        series: of a DICOM file, told from others and nothing else; None where it is not known.
        kept: nothing was done, because the output was there already.
        untouched: the classifier found nothing to undo, and the file was copied or written as it is.
        decision: what was decided for this file and why, as in `Entry`; None where the user said it.
    """

    job: Job
    seconds: float
    error: str | None = None
    warnings: tuple[str, ...] = ()
    redone: int = 0
    left_alone: str | None = None
    copied: bool = False
    series: str | None = None
    kept: bool = False
    untouched: bool = False
    decision: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class Summary:
    """What became of a whole run.

    Attributes:
        restored: files written.
        failures: why a file has no output or a folder was not looked into, one line each.
        unreached: jobs that were not begun, because the run was interrupted or had to stop.
        redone: the same, of all files.
        seconds: wall-clock time.
        interrupted: the user asked to stop.
        stopped_by: the error that ended the run for all files, such as a full disk.
        left_alone: reason → number of DICOM files that were not restored for it.
        copied: how many of these were copied.
        incomplete: restored series that lack slices, a line each.
        divided: series of which some slices were restored and others untouched, a line each.
        kept: outputs that were there already.
        untouched: files in which the classifier found nothing to undo.
        verdicts: what was found → number of files, those there already too.
    """

    restored: int
    failures: tuple[str, ...]
    unreached: int
    redone: int
    seconds: float
    interrupted: bool
    stopped_by: PipcliError | None
    left_alone: Mapping[str, int] = field(default_factory=dict)
    copied: int = 0
    incomplete: tuple[str, ...] = ()
    divided: tuple[str, ...] = ()
    kept: int = 0
    untouched: int = 0
    verdicts: Mapping[str, int] = field(default_factory=dict)

    @property
    def exit_code(self) -> int:
        """0 all well, 3 some files failed, 4 all failed, 6 or 7 the run had to stop, 130 interrupted."""
        if self.stopped_by is not None:
            return self.stopped_by.exit_code
        if self.interrupted:
            return INTERRUPTED
        if self.failures:
            return SOME_FAILED if self.restored or self.kept or self.untouched else ALL_FAILED
        return 0


def refuse_strangers(plan: Plan, ledger: Ledger) -> None:
    """Refuse to replace files that no ledger tells of; empty ones hold nothing that could be lost.

    Raises:
        UsageError: there are such files where outputs would go.
        OutputError: a ledger cannot be read.
    """
    strangers = [
        job.target
        for job in plan.jobs
        if not job.in_place and _size(job.target) and not ledger.entries(job.home, job.output)
    ]
    if strangers:
        count = "is" if len(strangers) == 1 else f"and {len(strangers) - 1} more are"
        raise UsageError(
            f"{shown(strangers[0])}: {count} there already, not from an earlier run: "
            "--overwrite replaces such files, --skip-existing keeps them"
        )


def finished_jobs(
    plan: Plan,
    restorer: Restorer,
    choice: Choice,
    strength: float,
    dicom: DicomOptions | None,
    keeping: Keeping,
    wishes: Wishes | None = None,
) -> frozenset[Job]:
    """The jobs of a plan that `run_plan` with the same arguments would find done."""
    stages = _Stages(restorer, choice, strength, dicom, keeping, wishes or Wishes())
    return frozenset(job for job in plan.jobs if stages.finished(job))


def _size(path: Path) -> int:
    """Bytes of a file, 0 where there is none."""
    try:
        return path.lstat().st_size
    except OSError:
        return 0


def run_plan(
    plan: Plan,
    restorer: Restorer,
    choice: Choice,
    strength: float = 1.0,
    on_outcome: Callable[[Outcome], None] | None = None,
    stopping: Callable[[], bool] | None = None,
    dicom: DicomOptions | None = None,
    keeping: Keeping | None = None,
    wishes: Wishes | None = None,
    on_pictures: Callable[[Job, Image, Image], None] | None = None,
    max_pixels: int = MAX_PIXELS,
    memory: int | None = None,
    allow_cpu: bool = False,
) -> Summary:
    """Restore every file of a plan.

    Args:
        plan: its folders must be there (:meth:`Plan.make_folders`).
        restorer: the model, ready to run.
        choice: what is undone in each file.
        strength: how much of the restoration to apply, in [0, 1].
        on_outcome: told of each file as soon as it is done.
        stopping: asked before each file; True ends the run there.
        dicom: what is done with DICOM files; needed where the plan holds any.
        keeping: how account is kept; None makes every file anew and notes nothing.
        wishes: how files are to be written; None as their sources were.
        on_pictures: given each restored image that is no DICOM, before and after, in a thread that writes;
            what it raises is lost.
        max_pixels: larger images are refused before they are decoded.
        memory: bytes for the images under way; one that needs more is refused. None is a share of what is
            free, has no effect on any output, and refuses nothing.
        allow_cpu: where the device's memory does not hold the smallest tile, a file goes on on the CPU.

    Reading and writing overlap with computing; small images share batches, whose shape is the restorer's
    whatever there is to do. A file that runs out of memory on the device begins again with less, which is a
    warning of that file (:func:`pipcli.inference.fallback.with_less`). What concerns the whole run (no space
    or right to write, no memory on the device for the least) stops it, and what else goes wrong with a file
    is that file's outcome: this function raises nothing of its own.
    """
    if dicom is None and any(job.dicom for job in plan.jobs):
        raise ValueError("the plan holds DICOM files: say what is done with them")
    start = time.monotonic()
    stages = _Stages(
        restorer=restorer,
        choice=choice,
        strength=strength,
        dicom=dicom,
        keeping=keeping,
        wishes=wishes or Wishes(),
        on_pictures=on_pictures,
        max_pixels=max_pixels,
        memory=memory,
        allow_cpu=allow_cpu,
    )
    tally = _Tally()
    stopped_by: PipcliError | None = None

    def ending() -> bool:
        return stopped_by is not None or (stopping is not None and stopping())

    limits = usual_limits(restorer.batch, memory)
    for work in overlapped(plan.jobs, stages.load, stages.compute, stages.finish, _weight, limits, ending):
        outcome = tally.count(work)
        if on_outcome is not None:
            on_outcome(outcome)
        stopped_by = stopped_by or work.fatal
    # Asked again, so that Ctrl-C during the last file ends a script around this command too.
    interrupted = stopping is not None and stopping()
    return tally.summary(plan, time.monotonic() - start, interrupted, stopped_by)


_MOST_UNDER_WAY, _LEAST_UNDER_WAY = 512 * 2**20, 64 * 2**20
"""Bytes that the images under way may take together where nobody says; a single one may take more."""
_BYTES_A_PIXEL = 12
"""Of an image under way: its pixels and those restored, three channels of two bytes."""
_BATCHES_TOGETHER = 4
"""From the images of so many batches are those of like size picked, so that few places stay empty."""


def usual_limits(batch: int = 1, memory: int | None = None) -> Limits:
    """How many files of a run are under way at once on this machine.

    Args:
        batch: images that are computed at once.
        memory: bytes for all under way; None is a quarter of what is free.
    """
    cores = os.cpu_count() or 1
    readers, writers = min(4, cores), min(8, cores)
    together = 1 if batch == 1 else batch * _BATCHES_TOGETHER
    if memory is None:
        memory = max(_LEAST_UNDER_WAY, min(_MOST_UNDER_WAY, _free_memory() // 4))
    ahead, behind = together + readers + 1, together + writers + 1
    return Limits(readers, writers, ahead, behind, memory, together)


def _free_memory() -> int:
    """Bytes that the system could give at once; more than matters where it does not tell."""
    with suppress(OSError, ValueError):
        for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    return 4 * _MOST_UNDER_WAY


def _weight(job: Job) -> int:
    return weight_under_way(job.source, job.dicom)


def weight_under_way(path: Path, dicom: bool) -> int:
    """About how many bytes a file takes while it is under way."""
    size = None if dicom else size_of(path)
    # Of unknown kinds, most that are large on the disk are compressed little.
    return _size(path) * 4 if size is None else math.prod(size) * _BYTES_A_PIXEL


def refuse_too_large(name: str, need: int, memory: int | None) -> None:
    """Refuse an image that needs more bytes than there are for images; None is any number.

    Raises:
        ImageError: it does.
    """
    if memory is not None and need > memory:
        raise ImageError(
            f"{name}: takes about {need / 2**20:.0f} MiB, "
            f"--max-memory leaves {memory / 2**20:.0f} MiB for images"
        )


@dataclass
class _Work:
    """One file on its way through the stages, and what has become of it so far."""

    job: Job
    seconds: float = 0.0
    sha256: str | None = None
    times: tuple[int, int] | None = None
    content: bytes | None = None
    image: Image | None = None
    original: Image | None = None
    untouched: bool = False
    decision: Mapping[str, Any] | None = None
    omegas: tuple[tuple[tuple[float, ...], ...], ...] = ()
    treatment: Treatment = field(default_factory=Treatment)
    warnings: list[str] = field(default_factory=list)
    redone: list[Redo] = field(default_factory=list)
    earlier: Entry | None = None
    kept: bool = False
    error: str | None = None
    fatal: PipcliError | None = None

    @property
    def over(self) -> bool:
        return self.kept or self.error is not None

    @contextmanager
    def named(self) -> Iterator[None]:
        """Errors of an image get the file's name, which a restorer does not know."""
        try:
            yield
        except ImageError as error:
            raise ImageError(f"{shown(self.job.source)}: {error}") from error

    @contextmanager
    def stage(self) -> Iterator[None]:
        """Whatever is raised within becomes this file's error."""
        start = time.monotonic()
        name = shown(self.job.source)
        try:
            yield
        except (OutputError, DeviceError) as problem:
            self.fatal, self.error = problem, str(problem)
        except PipcliError as problem:
            self.error = str(problem)
        except MemoryError:
            self.error = f"{name}: does not fit into memory"
        except Exception as problem:  # a bug, or a library's surprise: it must not cost the other files
            text = " ".join(str(problem).split())
            self.error = f"{name}: internal error: {type(problem).__name__}: {text}"
        finally:
            self.seconds += time.monotonic() - start


@dataclass(frozen=True)
class _Stages:
    """The three steps of every file. Only `compute` uses the model."""

    restorer: Restorer
    choice: Choice
    strength: float
    dicom: DicomOptions | None
    keeping: Keeping | None
    wishes: Wishes
    on_pictures: Callable[[Job, Image, Image], None] | None = None
    max_pixels: int = MAX_PIXELS
    memory: int | None = None
    allow_cpu: bool = False

    def finished(self, job: Job) -> bool:
        """Whether `load` would find the file's output there."""
        work = _Work(job)
        with work.stage():
            if self._skipped(job):
                return True
            if self.keeping is not None and self.keeping.ledger.entries(job.home, job.output):
                work.sha256 = hash_file(job.source)
                self._look_back(work)
        return work.kept

    def load(self, job: Job) -> _Work:
        """Read and decode a file, unless its output is there."""
        work = _Work(job)
        keeping = self.keeping
        with work.stage():
            if self._skipped(job):
                work.kept = True
                return work
            if keeping is not None and keeping.preserve_times:
                status = job.source.stat()
                work.times = status.st_atime_ns, status.st_mtime_ns
            if job.dicom:
                work.sha256 = hash_file(job.source)
                self._look_back(work)
                return work
            content = read_content(job.source)
            work.sha256 = hash_bytes(content)
            self._look_back(work)
            if not work.kept:
                name = shown(job.source)
                refuse_too_large(name, weight_under_way(job.source, dicom=False), self.memory)
                work.image = decode_image(content, name, max_pixels=self.max_pixels)
                refuse_too_large(name, 2 * work.image.pixels.nbytes, self.memory)
                work.warnings.extend(work.image.metadata.notes)
                work.content = content
        return work

    def compute(self, works: Sequence[_Work]) -> None:
        """Restore what was loaded; of DICOM, all but the writing."""
        for work in works:
            if not work.over and work.image is not None:
                with work.stage(), work.named():
                    self._decide(work, work.image)
        self._restore_together(
            [work for work in works if list(map(len, work.omegas)) == [1] and not work.over]
        )
        for work in works:
            if work.over:
                continue
            with work.stage():
                if work.job.dicom and self.dicom is not None:
                    self._restore_dicom(work, self.dicom)
                elif work.image is not None and work.omegas:
                    with work.named():
                        self._restore_image(work, work.image)
            if work.redone:
                precisions = " and ".join(sorted({str(redo.precision) for redo in work.redone}))
                results = "1 result" if len(work.redone) == 1 else f"{len(work.redone)} results"
                first = self.restorer.precision
                work.warnings.append(f"{results} not finite or absurd in {first}, redone in {precisions}")

    def _decide(self, work: _Work, image: Image) -> None:
        """What is to be undone in an image; where that is nothing, it or its file stays as it is."""
        degradations = self.restorer.degradations
        decision = self.choice.decide(image, degradations)
        self._note_decision(work, decision)
        if decision.restores:
            work.content = None
            work.original = image if self.on_pictures is not None else None
            work.omegas = decision.omegas_by_page(degradations)
            if any(map(self.restorer.divides, (image, *image.further))):
                work.warnings.append(DIVIDED)
        elif stays_as_wished(image, work.job.source, work.job.target, self.wishes):
            # Not even what reading changes, such as a palette, has happened to the file.
            work.image = None
            work.warnings.clear()

    def _restore_together(self, works: Sequence[_Work]) -> None:
        """Restore images in shared batches; if anything is wrong with one, none: each goes by itself then."""
        if self.restorer.batch == 1 or len(works) < 2:
            return
        start = time.monotonic()
        images = [work.image for work in works if work.image is not None]
        redone: list[tuple[int, Redo]] = []
        try:
            restored = self.restorer.restore_batch(
                images,
                [work.omegas[0][0] for work in works],
                self.strength,
                lambda *redo: redone.append(redo),
            )
        except Exception:
            return
        seconds = (time.monotonic() - start) / len(works)
        for index, (work, image) in enumerate(zip(works, restored, strict=True)):
            work.image, work.omegas = image, ()
            work.redone = [redo for place, redo in redone if place == index]
            work.seconds += seconds

    def _restore_image(self, work: _Work, image: Image) -> None:
        """Restore an image by itself, with less where it runs out of memory."""
        from pipcli.inference.fallback import with_less
        from pipcli.inference.passes import restore_pages

        def attempt(restorer: Restorer) -> Image:
            work.redone.clear()
            return restore_pages(restorer, image, work.omegas, self.strength, work.redone.append)

        side = image.longest_side
        work.image = with_less(attempt, self.restorer, side, work.warnings.append, self.allow_cpu)

    def _restore_dicom(self, work: _Work, options: DicomOptions) -> None:
        """Restore a DICOM file, or leave it alone."""
        from pipcli.inference.fallback import with_less

        def attempt(restorer: Restorer) -> Treatment:
            work.redone.clear()
            return treat_dicom(work.job, restorer, self.choice, self.strength, options, work.redone.append)

        # Slices are restored one after another: a batch would be copies of one.
        alone, side = self.restorer.reshaped(batch=1), self.restorer.tiling.tile
        work.treatment = with_less(attempt, alone, side, work.warnings.append, self.allow_cpu)
        work.warnings.extend(work.treatment.notes)
        if work.treatment.decision is not None:
            self._note_decision(work, work.treatment.decision)

    def _note_decision(self, work: _Work, decision: Decision) -> None:
        work.untouched = not decision.restores
        work.decision = decision.recorded(self.restorer.degradations)

    def finish(self, work: _Work) -> None:
        """Encode, note and write what was restored; note failures too."""
        if work.kept:
            return
        job = work.job
        if work.error is None:
            with work.stage():
                data = work.treatment.data if job.dicom else work.content
                if work.image is not None:
                    data = encode_for(work.image, job.target, self.wishes, work.warnings.append)
                work.content = None
                # Noted first: were the process killed in between, the next run would else take the file for
                # a stranger's, or restore in place a second time.
                self._note(work, None if data is None else hash_bytes(data))
                stays = job.in_place and work.image is None
                if data is not None and not stays:
                    write_bytes(job.target, data, work.times)
                if self.on_pictures is not None and work.original is not None and work.image is not None:
                    # The file is right and in its place, whatever becomes of its picture.
                    with suppress(Exception):
                        self.on_pictures(job, work.original, work.image)
        work.content = work.image = work.original = None
        if work.error is not None:
            if job.dicom:
                work.treatment = replace(work.treatment, data=None, series=series_id(job.source))
            with suppress(OutputError):  # that is what it may be about
                self._note(work, None)

    def _skipped(self, job: Job) -> bool:
        keeping = self.keeping
        return keeping is not None and keeping.existing is Existing.SKIP and os.path.lexists(job.target)

    def _look_back(self, work: _Work) -> None:
        """Whether the file is finished already, by the ledger and by what is there."""
        keeping, job = self.keeping, work.job
        if keeping is None or keeping.existing is not Existing.RESUME or work.sha256 is None:
            return
        recipe = self._recipe(job)
        there: str | None = work.sha256 if job.in_place else None
        for entry in keeping.ledger.entries(job.home, job.output):
            if entry.error is not None or Recipe(entry.model_sha256, entry.parameters) != recipe:
                continue
            if not job.in_place and entry.input_sha256 != work.sha256:
                continue
            if entry.output_sha256 is not None:
                there = there or hash_file(job.target)
            elif job.in_place or entry.left_alone is None:
                continue
            if entry.output_sha256 is None or entry.output_sha256 == there:
                work.kept, work.earlier = True, entry
                return

    def _recipe(self, job: Job) -> Recipe:
        restorer = self.restorer
        parameters = {
            **self.choice.recorded(restorer.degradations),
            "strength": self.strength,
            "tile": restorer.tiling.tile,
            "batch": 1 if job.dicom else restorer.batch,
            "device": restorer.place,
            "precision": str(restorer.precision),
        }
        if job.dicom and self.dicom is not None:
            options = asdict(self.dicom)
            del options["model_sha256"]
            parameters |= options | {"window": self.dicom.window.text if self.dicom.window else None}
        else:
            parameters |= {name: wish for name, wish in asdict(self.wishes).items() if wish is not None}
        sha256 = "" if self.keeping is None else self.keeping.model_sha256
        return Recipe(sha256, as_recorded(parameters))

    def _note(self, work: _Work, output_sha256: str | None) -> None:
        if self.keeping is None:
            return
        job, recipe = work.job, self._recipe(work.job)
        entry = Entry(
            input=job.relative,
            input_sha256=work.sha256,
            model_sha256=recipe.model_sha256,
            parameters=recipe.parameters,
            output=job.output,
            output_sha256=output_sha256,
            seconds=round(work.seconds, 3),
            warnings=tuple(work.warnings),
            left_alone=work.treatment.left_alone,
            series=work.treatment.series,
            error=work.error,
            decision=work.decision,
        )
        self.keeping.ledger.add(job.home, entry)


@dataclass
class _Tally:
    """The sums of a run."""

    done: set[Path] = field(default_factory=set)
    restored: int = 0
    kept: int = 0
    redone: int = 0
    copied: int = 0
    untouched: int = 0
    verdicts: Counter[str] = field(default_factory=Counter)
    left_alone: Counter[str] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)
    slices: list[tuple[Path, str]] = field(default_factory=list)
    failed_slices: list[tuple[Path, str | None]] = field(default_factory=list)
    clean_slices: list[tuple[Path, str]] = field(default_factory=list)

    def count(self, work: _Work) -> Outcome:
        """Add one file, and say what became of it."""
        job, earlier = work.job, work.earlier
        outcome = Outcome(
            job=job,
            seconds=work.seconds,
            error=work.error,
            warnings=tuple(work.warnings) if earlier is None else earlier.warnings,
            redone=len(work.redone),
            left_alone=work.treatment.left_alone if earlier is None else earlier.left_alone,
            copied=work.treatment.left_alone is not None and work.treatment.data is not None
            if earlier is None
            else earlier.left_alone is not None and earlier.output_sha256 is not None,
            series=work.treatment.series if earlier is None else earlier.series,
            kept=work.kept,
            untouched=work.untouched,
            decision=work.decision if earlier is None else earlier.decision,
        )
        verdict = None if outcome.decision is None else outcome.decision["verdict"]
        self.done.add(job.target)
        self.redone += outcome.redone
        if outcome.error is not None:
            self.failures.append(outcome.error)
            self.failed_slices.extend([(job.source, outcome.series)] if job.dicom else [])
            return outcome
        if outcome.series:
            (self.clean_slices if verdict == CLEAN else self.slices).append((job.source, outcome.series))
        if verdict is not None:
            self.verdicts[verdict] += 1
        if outcome.left_alone is not None:
            self.left_alone[outcome.left_alone] += 1
            self.copied += outcome.copied
        elif outcome.kept:
            self.kept += 1
        elif outcome.untouched:
            self.untouched += 1
        else:
            self.restored += 1
        return outcome

    def summary(
        self, plan: Plan, seconds: float, interrupted: bool, stopped_by: PipcliError | None
    ) -> Summary:
        unreached = [job for job in plan.jobs if job.target not in self.done]
        self.failed_slices.extend((job.source, None) for job in unreached if job.dicom)
        return Summary(
            restored=self.restored,
            failures=(*(f"{shown(folder)}: cannot be listed" for folder in plan.unlisted), *self.failures),
            unreached=len(unreached),
            redone=self.redone,
            seconds=seconds,
            interrupted=interrupted,
            stopped_by=stopped_by,
            left_alone=dict(self.left_alone),
            copied=self.copied,
            incomplete=incomplete_series(self.slices, self.failed_slices),
            divided=divided_series(self.slices, self.clean_slices),
            kept=self.kept,
            untouched=self.untouched,
            verdicts=dict(self.verdicts),
        )
