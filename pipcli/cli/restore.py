"""``pipcli restore``: files and folders in, the same restored out."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pipcli import __version__
from pipcli.cli.accounts import (
    account,
    decision_line,
    duration,
    findings,
    shape,
)
from pipcli.cli.choosing import Asked, asked
from pipcli.cli.engines import make_restorer
from pipcli.cli.file_run import FileRun
from pipcli.cli.interrupts import terminated_like_interrupted
from pipcli.cli.messages import complain, say
from pipcli.cli.options import (
    DeviceName,
    DeviceOption,
    EngineName,
    EngineOption,
    MaxPixelsOption,
    PrecisionName,
    PrecisionOption,
    TileOption,
    check_max_pixels,
    parse_bytes,
)
from pipcli.cli.report import ReportBook, check_report, of_share
from pipcli.cli.standard import read_stdin
from pipcli.cli.stream import STREAM, check_stream, restore_stream
from pipcli.errors import ALL_FAILED, ImageError, UsageError
from pipcli.models.zoo import DEFAULT_MODEL

if TYPE_CHECKING:
    from pipcli.batch.outcome import Summary
    from pipcli.inference.decision import Decision
    from pipcli.inference.engine import Restorer

LARGEST_TILE = 16384
"""Of a model that sees images whole where memory allows."""


def restore(
    context: typer.Context,
    paths: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="IN... OUT",
            help="Images, folders with all folders in them, zip files, patterns, @list.txt (a path a line); "
            "last the file or folder to write to, where the tree of a folder is kept. - is stdin, or stdout.",
            show_default=False,
        ),
    ] = None,
    *,
    task: Annotated[
        str | None,
        typer.Option(
            help="What to undo: auto (the default: what a classifier finds in each file), denoise, derain, "
            "dehaze, deblur, enhance, a mix such as derain+denoise, or passes in order: denoise,derain.",
            show_default=False,
        ),
    ] = None,
    omega: Annotated[
        str | None,
        typer.Option(
            metavar="WEIGHTS",
            help="What to undo by weights that sum to 1: noise=0.7,rain=0.3.",
            show_default=False,
        ),
    ] = None,
    threshold: Annotated[
        float | None,
        typer.Option(
            metavar="0..1",
            help="auto: probability from which a degradation is undone; 0.5 by default.",
            show_default=False,
        ),
    ] = None,
    abstain: Annotated[
        bool,
        typer.Option(
            "--abstain/--no-abstain",
            help="auto: copy untouched where nothing is found; else restore all the same, weighed by the "
            "probabilities.",
        ),
    ] = True,
    classifier: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="auto: another classifier, such as a .safetensors file.", show_default=False
        ),
    ] = None,
    model: Annotated[
        str, typer.Option(help="A name that `pipcli models` lists, or a .safetensors file.")
    ] = DEFAULT_MODEL,
    device: DeviceOption = DeviceName.AUTO,
    engine: EngineOption = EngineName.AUTO,
    compiled: Annotated[
        bool,
        typer.Option(
            "--compile",
            help="Have torch compile the model first: takes minutes, and a C++ compiler; for the CPU.",
        ),
    ] = False,
    precision: PrecisionOption = PrecisionName.AUTO,
    tile: TileOption = 512,
    batch: Annotated[
        int | None,
        typer.Option(
            metavar="COUNT",
            help="How many images of one tile and of like size are computed at once; 4 on CUDA, else 1.",
            show_default=False,
        ),
    ] = None,
    max_memory: Annotated[
        str | None,
        typer.Option(
            metavar="SIZE",
            help="Stay below this, such as 2G: with smaller tiles if need be, and without larger images.",
            show_default=False,
        ),
    ] = None,
    allow_cpu: Annotated[
        bool,
        typer.Option("--allow-cpu", help="Continue on the CPU where the device's memory is too small."),
    ] = False,
    strength: Annotated[
        float,
        typer.Option(
            metavar="0..1",
            help="How much to apply: 0 is the input, 1 all of it. For CT at a quarter of the dose 1 comes "
            "closest to full dose, and about half keeps its grain.",
        ),
    ] = 1.0,
    window: Annotated[
        str | None,
        typer.Option(
            metavar="WINDOW",
            help="DICOM: what is restored, in HU: auto (the file's own first window; the default), abdomen, "
            "lung, bone, brain, mediastinum, full, LO,HI or CENTRE/WIDTH as DICOM defines it. What lies "
            "outside stays as it is. Given as auto or percentiles, CR, DX and MR images are restored too.",
            show_default=False,
        ),
    ] = None,
    sigma_hu: Annotated[
        float | None,
        typer.Option(
            metavar="HU",
            help="DICOM: standard deviation of the noise; the contrast is scaled to it, in several passes "
            "where the window is wide and the noise weak.",
            show_default=False,
        ),
    ] = None,
    copy_others: Annotated[
        bool,
        typer.Option("--copy-others", help="DICOM: copy what is no axial CT image, but no DICOMDIR."),
    ] = False,
    drop_private: Annotated[
        bool, typer.Option("--drop-private", help="DICOM: leave private elements out of what is written.")
    ] = False,
    files0_from: Annotated[
        str | None,
        typer.Option(
            metavar="FILE",
            help="Restore the paths in FILE, each ended by NUL (find -print0); - is stdin.",
            show_default=False,
        ),
    ] = None,
    name: Annotated[
        str | None,
        typer.Option(
            metavar="TEMPLATE",
            help="Names of outputs in a folder, such as {stem}_restored{suffix}.",
            show_default=False,
        ),
    ] = None,
    format_name: Annotated[
        str | None,
        typer.Option(
            "--format",
            metavar="NAME",
            help="Write all images as png, jpg, tif, webp, bmp, avif, jp2 or jxl; else as they were.",
            show_default=False,
        ),
    ] = None,
    quality: Annotated[
        int | None,
        typer.Option(metavar="1..100", help="Quality of what is written with loss.", show_default=False),
    ] = None,
    bit_depth: Annotated[
        int | None,
        typer.Option(metavar="8|16|32", help="Bits a channel of what is written.", show_default=False),
    ] = None,
    max_pixels: MaxPixelsOption = None,
    in_place: Annotated[
        bool,
        typer.Option("--in-place", help="Replace the inputs, each once the new file is whole; no OUT."),
    ] = False,
    shard: Annotated[
        str | None,
        typer.Option(
            metavar="I/N", help="Restore only the I-th of N shares of the files.", show_default=False
        ),
    ] = None,
    report: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.html",
            help="Write a page with every file before and after; each share of --shard one of its own.",
            show_default=False,
        ),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the plan and what it will cost; write nothing.")
    ] = False,
    overwrite: Annotated[
        bool,
        typer.Option("--overwrite", help="Do every file again, and replace whatever is there already."),
    ] = False,
    skip_existing: Annotated[
        bool, typer.Option("--skip-existing", help="Keep whatever is there already, whoever made it.")
    ] = False,
    preserve_times: Annotated[
        bool, typer.Option("--preserve-times", help="Outputs take the times of their inputs.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="A line of JSON for each file on stdout.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Only errors on stderr.")] = False,
) -> None:
    """Restore images and folders of images."""
    context.with_resource(terminated_like_interrupted())
    if not 0 <= strength <= 1:
        raise UsageError(f"--strength is {strength}: it must be from 0 to 1")
    if sigma_hu is not None and not 0 < sigma_hu < math.inf:
        raise UsageError(f"--sigma-hu is {sigma_hu}: it must be above 0")
    check_max_pixels(max_pixels)
    if overwrite and skip_existing:
        raise UsageError("--overwrite and --skip-existing contradict each other")
    if in_place and (name or skip_existing or format_name):
        raise UsageError("--in-place leaves no room for --name, --format and --skip-existing")
    words, target = _split(paths or [], in_place, files0_from is not None)
    streaming = STREAM in (*words, target)
    if streaming:
        if len(words) != 1 or target is None or files0_from is not None:
            raise UsageError("- stands for one input or one output: pipcli restore - - < in > out")
        for_files = {
            "--json": as_json,
            "--dry-run": dry_run,
            "--shard": shard,
            "--name": name,
            "--report": report,
            "--skip-existing": skip_existing,
            "--preserve-times": preserve_times,
            "--copy-others": copy_others,
            "--drop-private": drop_private,
            "--window": window is not None,
            "--sigma-hu": sigma_hu,
        }
        given = [option for option, value in for_files.items() if value]
        if given:
            raise UsageError(f"{given[0]} is for files, not for -")
    source = context.get_parameter_source("tile")
    tile_given = source is not None and source.name != "DEFAULT"
    most_memory = None if max_memory is None else parse_bytes("--max-memory", max_memory)
    wanted = asked(task, omega, classifier, threshold, abstain)
    if drop_private and copy_others:
        raise UsageError("--drop-private excludes --copy-others: what is copied keeps its private elements")
    if drop_private and not wanted.passes:
        raise UsageError("--drop-private needs --task denoise: auto copies files without noise as they are")

    # Everything that can be wrong is found before anything is changed, and what is cheap to find comes first.
    from pipcli.batch.inputs import named_inputs, read_list
    from pipcli.batch.keeping import Existing, Keeping, refuse_strangers
    from pipcli.batch.ledger import Ledger
    from pipcli.batch.naming import NameTemplate
    from pipcli.batch.plan import Plan, plan_batch
    from pipcli.batch.shards import parse_shard
    from pipcli.batch.slices import DicomOptions, require_denoising
    from pipcli.batch.zips import unpacked
    from pipcli.images import MAX_PIXELS
    from pipcli.images.dicom_windows import parse_window
    from pipcli.images.naming import shown
    from pipcli.images.writing import Wishes

    chosen_window = None if window is None else parse_window(window)
    share = None if shard is None else parse_shard(shard)
    wishes = Wishes(format_name, quality, bit_depth)
    template = NameTemplate(NameTemplate.text if name is None else name, wishes.format)
    existing = Existing.OVERWRITE if overwrite else Existing.SKIP if skip_existing else Existing.RESUME
    ledger = Ledger("" if share is None else share.name)
    plan = Plan(())
    if target is not None and streaming:
        check_stream(words[0], target, overwrite, wishes.format)
    else:
        listed = []
        if files0_from is not None:
            content = read_stdin() if files0_from == STREAM else None
            listed = read_list(files0_from, b"\0", content)
        # What is unpacked goes when the command ends, however it ends.
        inputs = context.with_resource(unpacked(named_inputs(words, listed), in_place))
        plan = plan_batch(inputs, target, template)
        require_denoising(plan, wanted.passes)
        plan = plan if share is None else share.of(plan)
        if existing is Existing.RESUME:
            refuse_strangers(plan, ledger)
        if report is not None:
            report = report if share is None else of_share(report, share)
            check_report(report, overwrite)

    from pipcli.inference.decision import recorded_passes
    from pipcli.models import zoo
    from pipcli.models.checkpoint import sha256_of

    restorer = make_restorer(
        zoo.load_model(model),
        device.value,
        engine.value,
        precision.value,
        tile,
        batch,
        compiled,
        (lambda line: None) if quiet else say,
    )
    restorer, memory = _within(most_memory, restorer, tile_given)
    choice = wanted.made_ready(restorer.device)
    setting = f"{model} on {restorer.place} in {restorer.precision}"
    if restorer.tiling.tile != tile:
        setting += f", tiles of {restorer.tiling.tile} for --max-memory"
    if target is not None and streaming:
        try:
            decision, notes = restore_stream(
                words[0],
                target,
                restorer,
                choice,
                strength,
                wishes,
                max_pixels or MAX_PIXELS,
                memory,
                allow_cpu,
            )
        except ImageError as error:
            complain(str(error))
            raise typer.Exit(ALL_FAILED) from None
        if not quiet:
            _tell_stream(decision, notes, restorer, setting)
        return

    keeping = Keeping(ledger, sha256_of(zoo.locate(model).path), existing, preserve_times)
    dicom = None
    if any(job.dicom for job in plan.jobs):
        dicom = DicomOptions(
            model=Path(model).stem,
            model_sha256=keeping.model_sha256,
            window=chosen_window,
            sigma=sigma_hu,
            copy_others=copy_others,
            drop_private=drop_private,
        )
        if not quiet:
            say("DICOM: all data of the patients stay in the written files")
    run = FileRun(
        plan=plan,
        restorer=restorer,
        choice=choice,
        strength=strength,
        dicom=dicom,
        keeping=keeping,
        wishes=wishes,
        max_pixels=max_pixels or MAX_PIXELS,
        memory=memory,
        allow_cpu=allow_cpu,
        label=wanted.label,
        passes=recorded_passes(wanted.passes, restorer.degradations),
        setting=setting,
        as_json=as_json,
        quiet=quiet,
    )
    if dry_run:
        run.tell(in_place)
        return
    book = None if report is None else ReportBook(plan)
    summary = run.restore(book)
    if book is not None and report is not None:
        facts = (
            ("task", wanted.label),
            *_facts_of_finding(summary, wanted, choice.recorded(restorer.degradations)),
            ("model", f"{model}, sha256 {keeping.model_sha256[:16]}"),
            (
                "computed",
                f"on {restorer.place} in {restorer.precision}, {shape(restorer)}, strength {strength:g}",
            ),
            ("files", account(summary, plan)),
            ("time", duration(summary.seconds)),
            ("program", f"pipcli {__version__}"),
        )
        book.write(report, wanted.label, facts)
        if share is not None and not quiet:
            say(f"report: {shown(report)}")
    raise typer.Exit(summary.exit_code)


def _within(limit: int | None, restorer: Restorer, tile_given: bool) -> tuple[Restorer, int | None]:
    """A restorer that keeps a limit on memory, in bytes, and what is left of that for the images under way.

    Raises:
        UsageError: the limit is too low, or cannot be counted.
    """
    from pipcli.inference.heap import keep_freed_memory
    from pipcli.inference.memory import share_out

    if limit is None:
        if restorer.device.type == "cpu":
            keep_freed_memory()
        return restorer, None
    if not tile_given and not getattr(restorer.model, "local", True):
        # What its blocks take from the image they take from all of it where that fits.
        restorer = restorer.reshaped(tile=LARGEST_TILE)
    shares = share_out(restorer, limit)
    return restorer.reshaped(tile=shares.tile), shares.images


def _tell_stream(decision: Decision, notes: Iterable[str], restorer: Restorer, setting: str) -> None:
    """What became of the one image that came through a pipeline."""
    for note in notes:
        say(f"warning: {note}")
    recorded = decision.recorded(restorer.degradations)
    if recorded is not None:
        say(decision_line(recorded))
    say(f"1 {'restored' if decision.restores else 'untouched'} with {setting}")


def _facts_of_finding(summary: Summary, wanted: Asked, by: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    """What the classifier found, and which it was, for a report; nothing where the user said what to undo."""
    if not summary.verdicts:
        return ()
    sha256 = by["classifier_sha256"][:16]
    return (
        ("found", findings(summary.verdicts)),
        ("classifier", f"{wanted.classifier}, sha256 {sha256}, threshold {by['threshold']:g}"),
    )


def _split(paths: list[str], in_place: bool, listed: bool) -> tuple[list[str], str | None]:
    """The inputs, and the output or None in place."""
    words, target = (paths, None) if in_place else (paths[:-1], paths[-1] if paths else None)
    if not in_place and target is None:
        raise UsageError("IN and OUT are missing: what to restore, and where to")
    if not words and not listed:
        raise UsageError("OUT is missing: the file or folder to write to" if paths else "IN is missing")
    return words, target
