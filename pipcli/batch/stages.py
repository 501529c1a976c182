"""The three steps of every file: read, compute, write; what goes wrong is that file's outcome."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

from pipcli.batch.keeping import Existing, Keeping
from pipcli.batch.ledger import Entry, Recipe, as_recorded, hash_bytes, hash_file
from pipcli.batch.limits import refuse_too_large, weight_under_way
from pipcli.batch.plan import Job, as_known
from pipcli.batch.refusals import of_one_file
from pipcli.batch.slices import DicomOptions, Treatment, series_id, treat_dicom
from pipcli.errors import DeviceError, ImageError, OutputError, PipcliError
from pipcli.images import MAX_PIXELS, Image, decode_image
from pipcli.images.atomic import write_bytes
from pipcli.images.naming import shown
from pipcli.images.reading import read_content
from pipcli.images.writing import Wishes, encode_for, refuse_unwritable, stays_as_wished

if TYPE_CHECKING:
    from pipcli.inference.decision import Choice, Decision
    from pipcli.inference.engine import Redo, Restorer

DIVIDED = "in tiles, of which this model's blocks see one at a time: with a larger --tile it sees more"
"""The warning of an image that :meth:`pipcli.inference.engine.Restorer.divides`."""


@dataclass
class Work:
    """One file on its way through the stages, and what has become of it so far.

    Attributes:
        job: what is to become of which file.
        seconds: spent on it, in all stages.
        sha256: of the input, once it is read.
        times: of last access and change, in nanoseconds, where the output is to have them.
        content: the file's bytes, as long as its output may be a copy of it.
        image: what was decoded, then what was restored; None where the output is a copy, and for DICOM.
        original: the image before, where somebody wants to see both.
        untouched, decision: as in :class:`pipcli.batch.outcome.Outcome`.
        omegas: of each page, the weights of every pass; none once nothing is left to compute.
        treatment: what was done with a DICOM file.
        warnings: as in Outcome.
        redone: what the numeric guard computed again.
        earlier: the ledger's entry of an output that is there already.
        kept: there is such an output, and nothing to do.
        kept_otherwise: as in Outcome.
        error: why there is no output.
        fatal: the error that ends the run for all files.
    """

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
    kept_otherwise: bool = False
    error: str | None = None
    fatal: PipcliError | None = None

    @property
    def over(self) -> bool:
        """Whether there is nothing more to compute."""
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
        name = shown(self.job.name)
        try:
            yield
        except (OutputError, DeviceError) as problem:
            self.fatal, self.error = problem, as_known(str(problem), self.job)
        except PipcliError as problem:
            self.error = as_known(str(problem), self.job)
        except MemoryError:
            self.error = f"{name}: does not fit into memory"
        except Exception as problem:  # a bug, or a library's surprise: it must not cost the other files
            text = " ".join(str(problem).split())
            self.error = f"{name}: internal error: {type(problem).__name__}: {text}"
        finally:
            self.seconds += time.monotonic() - start


@dataclass(frozen=True)
class Stages:
    """The three steps of every file; only `compute` uses the model.

    Attributes are the arguments of :func:`pipcli.batch.run.run_plan`.
    """

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

    def look(self, job: Job) -> Work:
        """What `load` would find of a file's output, without what it would read."""
        work = Work(job)
        with work.stage():
            if self._skipped(job):
                work.kept = True
            elif self.keeping is not None and self.keeping.ledger.entries(job.home, job.output):
                work.sha256 = hash_file(job.source)
                self._look_back(work)
        return work

    def load(self, job: Job) -> Work:
        """Read and decode a file, unless its output is there."""
        work = Work(job)
        with work.stage():
            if self._skipped(job):
                work.kept = True
                return work
            name = shown(job.source)
            need = 0 if self.memory is None else weight_under_way(job.source, job.dicom)
            if job.dicom or need > (self.memory or 0):
                work.sha256 = hash_file(job.source)
                self._look_back(work)
                if not work.kept:
                    refuse_too_large(name, need, self.memory)
                    self._keep_times(work)
                return work
            content = read_content(job.source)
            work.sha256 = hash_bytes(content)
            self._look_back(work)
            if not work.kept:
                self._keep_times(work)
                work.image = decode_image(content, name, max_pixels=self.max_pixels)
                refuse_too_large(name, 2 * work.image.pixels.nbytes, self.memory)
                work.warnings.extend(work.image.metadata.notes)
                work.content = content
        return work

    def _keep_times(self, work: Work) -> None:
        """Those of the source, for its output, where they are asked for."""
        if self.keeping is not None and self.keeping.preserve_times:
            try:
                status = work.job.source.stat()
            except OSError as error:  # it was there when it was planned
                reason = error.strerror or error
                raise ImageError(f"{shown(work.job.source)}: cannot be read: {reason}") from error
            work.times = status.st_atime_ns, status.st_mtime_ns

    def compute(self, works: Sequence[Work]) -> None:
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

    def _decide(self, work: Work, image: Image) -> None:
        """What is to be undone in an image; where that is nothing, it or its file stays as it is."""
        degradations = self.restorer.degradations
        decision = self.choice.decide(image, degradations)
        self._note_decision(work, decision)
        if decision.restores:
            refuse_unwritable(image, work.job.target, self.wishes)
            work.content = None
            work.original = image if self.on_pictures is not None else None
            work.omegas = decision.omegas_by_page(degradations)
            if any(map(self.restorer.divides, (image, *image.further))):
                work.warnings.append(DIVIDED)
        elif stays_as_wished(image, work.job.source, work.job.target, self.wishes):
            # Not even what reading changes, such as a palette, has happened to the file.
            work.image = None
            work.warnings.clear()

    def _restore_together(self, works: Sequence[Work]) -> None:
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

    def _restore_image(self, work: Work, image: Image) -> None:
        """Restore an image by itself, with less where it runs out of memory."""
        from pipcli.inference.fallback import with_less
        from pipcli.inference.passes import restore_pages

        def attempt(restorer: Restorer) -> Image:
            work.redone.clear()
            return restore_pages(restorer, image, work.omegas, self.strength, work.redone.append)

        side = image.longest_side
        work.image = with_less(attempt, self.restorer, side, work.warnings.append, self.allow_cpu)

    def _restore_dicom(self, work: Work, options: DicomOptions) -> None:
        """Restore a DICOM file, or leave it alone."""
        from pipcli.inference.fallback import with_less

        def attempt(restorer: Restorer) -> Treatment:
            work.redone.clear()
            return treat_dicom(
                work.job,
                restorer,
                self.choice,
                self.strength,
                options,
                work.redone.append,
                self.max_pixels,
            )

        # Slices are restored one after another: a batch would be copies of one.
        alone, side = self.restorer.reshaped(batch=1), self.restorer.tiling.tile
        work.treatment = with_less(attempt, alone, side, work.warnings.append, self.allow_cpu)
        work.warnings.extend(work.treatment.notes)
        if work.treatment.decision is not None:
            self._note_decision(work, work.treatment.decision)

    def _note_decision(self, work: Work, decision: Decision) -> None:
        work.untouched = not decision.restores
        work.decision = decision.recorded(self.restorer.degradations)

    def finish(self, work: Work) -> None:
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
                    with of_one_file():
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

    def _look_back(self, work: Work) -> None:
        """Whether the file is finished already, by the ledger and by what is there."""
        keeping, job = self.keeping, work.job
        if keeping is None or keeping.existing is not Existing.RESUME or work.sha256 is None:
            return
        recipe = self._recipe(job)
        there: str | None = work.sha256 if job.in_place else None
        entries = [entry for entry in keeping.ledger.entries(job.home, job.output) if entry.error is None]
        for entry in entries:
            if Recipe(entry.model_sha256, entry.parameters) != recipe:
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
        if not job.in_place:
            return
        for entry in entries:
            # What other settings have made of the file stands there now, and its input is gone: to restore
            # that would be to restore twice. What they left as it was can still be restored.
            if entry.output_sha256 == work.sha256 != entry.input_sha256:
                work.kept, work.kept_otherwise, work.earlier = True, True, entry
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

    def _note(self, work: Work, output_sha256: str | None) -> None:
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
