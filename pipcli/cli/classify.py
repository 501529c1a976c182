"""``pipcli classify``: what ails files, as a table, JSON lines or CSV; and files sorted by that."""

from __future__ import annotations

import csv
import io
import json
import shutil
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Annotated

import typer

from pipcli.cli.accounts import duration, findings, progress_bar
from pipcli.cli.choosing import check_threshold
from pipcli.cli.interrupts import deferred_interrupts, terminated_like_interrupted
from pipcli.cli.messages import complain, say
from pipcli.cli.options import DeviceName, DeviceOption, MaxPixelsOption, check_max_pixels
from pipcli.cli.standard import read_stdin
from pipcli.cli.stream import STREAM
from pipcli.degradations import Degradation
from pipcli.errors import ALL_FAILED, INTERRUPTED, SOME_FAILED, ImageError, PipcliError, UsageError
from pipcli.models.zoo import DEFAULT_CLASSIFIER

if TYPE_CHECKING:
    from pipcli.batch.classify import Finding

_NARROWEST = 16
"""Least characters of a file's name in a table on a terminal."""
_FOUND = len("rain+lowlight")
_PAIR = len("lowlight 0.00")
_SHORT = {"lowlight": "low"}
"""Words of a table for which a terminal is too narrow."""


def classify(
    context: typer.Context,
    paths: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="IN...",
            help="Images, folders with all folders in them, zip files, patterns, @list.txt (a path a line); "
            "- is stdin.",
            show_default=False,
        ),
    ] = None,
    *,
    as_json: Annotated[bool, typer.Option("--json", help="A line of JSON for each file.")] = False,
    as_csv: Annotated[
        bool, typer.Option("--csv", help="A line of CSV for each file, below a header.")
    ] = False,
    top: Annotated[
        int | None,
        typer.Option(
            metavar="COUNT",
            help="Show so many degradations, the most probable first, whether found or not.",
            show_default=False,
        ),
    ] = None,
    threshold: Annotated[
        float | None,
        typer.Option(
            metavar="0..1",
            help="Probability from which a degradation counts as found; 0.5 by default.",
            show_default=False,
        ),
    ] = None,
    sort_into: Annotated[
        Path | None,
        typer.Option(
            metavar="OUT",
            help="Make links to the files in one folder a class: clean, noise, noise+rain, ...; nothing "
            "there is replaced.",
            show_default=False,
        ),
    ] = None,
    copy: Annotated[bool, typer.Option("--copy", help="Sort copies in place of links.")] = False,
    classifier: Annotated[
        str, typer.Option(metavar="NAME", help="Another classifier, such as a .safetensors file.")
    ] = DEFAULT_CLASSIFIER,
    device: DeviceOption = DeviceName.AUTO,
    window: Annotated[
        str | None,
        typer.Option(
            metavar="WINDOW", help="DICOM: through what it is seen, as in restore.", show_default=False
        ),
    ] = None,
    files0_from: Annotated[
        str | None,
        typer.Option(
            metavar="FILE",
            help="Look at the paths in FILE, each ended by NUL; - is stdin.",
            show_default=False,
        ),
    ] = None,
    max_pixels: MaxPixelsOption = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Only errors on stderr.")] = False,
) -> None:
    """Tell what ails images.

    Noise, rain, haze, blur, low light, several of these, or nothing.
    """
    context.with_resource(terminated_like_interrupted())
    words = paths or []
    check_threshold(threshold)
    if as_json and as_csv:
        raise UsageError("--json and --csv contradict each other")
    if top is not None and not 1 <= top <= len(Degradation):
        raise UsageError(f"--top is {top}: it must be from 1 to {len(Degradation)}")
    check_max_pixels(max_pixels)
    if copy and sort_into is None:
        raise UsageError("--copy is for --sort-into")
    if not words and files0_from is None:
        raise UsageError("IN is missing: what to look at")
    streaming = STREAM in words
    if streaming and (len(words) > 1 or files0_from is not None or sort_into is not None):
        raise UsageError("- stands for one input, which is not sorted: pipcli classify - < in.jpg")

    from pipcli.batch.inputs import named_inputs, read_list
    from pipcli.batch.plan import File, Listing, list_files, list_for_sorting
    from pipcli.batch.zips import unpacked
    from pipcli.images import MAX_PIXELS
    from pipcli.images.dicom_windows import parse_window

    chosen_window = None if window is None else parse_window(window)
    listing = Listing((File(Path(STREAM), PurePath(STREAM), False),))
    if not streaming:
        listed = []
        if files0_from is not None:
            content = read_stdin() if files0_from == STREAM else None
            listed = read_list(files0_from, b"\0", content)
        named = named_inputs(words, listed)
        inputs = context.with_resource(unpacked(named, False))
        is_unpacked = any(each.known_as is not None for each in inputs)
        if sort_into is not None and not copy and is_unpacked:
            raise UsageError("files in a zip file cannot be linked to: --copy makes copies")
        listing = list_files(inputs) if sort_into is None else list_for_sorting(inputs, sort_into)

    from pipcli.batch.classify import Finding, Sorter, classify_content, classify_files
    from pipcli.inference.device import choose_device
    from pipcli.inference.diagnosis import DEFAULT_THRESHOLD, Diagnoser
    from pipcli.models import zoo

    least = DEFAULT_THRESHOLD if threshold is None else threshold
    diagnoser = Diagnoser(zoo.load_classifier(classifier), choose_device(device.value))
    pixels = max_pixels or MAX_PIXELS
    header: str | None
    as_line: Callable[[Row], str | None]
    if as_json:
        header, as_line = None, as_json_line
    elif as_csv:
        header, as_line = csv_line(_COLUMNS), as_csv_line
    else:
        table = Table.fitting([file.name for file in listing.files], top)
        header, as_line = table.header, table.line
    if header is not None:
        print(header, flush=True)
    if streaming:
        content = read_stdin()
        try:
            diagnosis = classify_content(content, "standard input", diagnoser, pixels)
        except ImageError as error:
            complain(str(error))
            raise typer.Exit(ALL_FAILED) from None
        print(as_line(Row.of(Finding(listing.files[0], diagnosis), least, top)), flush=True)
        return

    start = time.monotonic()
    sorter = None if sort_into is None else Sorter(sort_into, least, copy)
    failures = [*listing.failures]
    for path, failure in listing.failed.items():
        line = as_line(Row(path, error=failure))
        if line is not None:
            print(line, flush=True)
    classes: Counter[str] = Counter()
    left_alone = done = 0
    stopped_by: PipcliError | None = None
    with (
        progress_bar(len(listing.files), quiet, printing=True) as advance,
        deferred_interrupts("stopping after the file in hand; once more stops at once") as stopping,
    ):
        try:
            for finding in classify_files(listing.files, diagnoser, chosen_window, sorter, pixels, stopping):
                row = Row.of(finding, least, top)
                done += 1
                if finding.error is not None:
                    failures.append(finding.error)
                elif finding.left_alone is not None:
                    left_alone += 1
                else:
                    classes[row.found] += 1
                line = as_line(row)
                if line is not None:
                    print(line, flush=True)
                advance("")
        except PipcliError as error:  # a full disk, say; it is among the failures
            stopped_by = error
        interrupted = stopping()
    if classes and not quiet:
        say(f"found: {findings(classes)}")
    for failure in failures:
        complain(failure)
    passed = left_alone + listing.left_alone
    if not quiet:
        unreached = len(listing.files) - done
        say(
            f"{classes.total()} looked at, {len(failures)} failed, {passed} left alone"
            f"{f', {unreached} not begun' if unreached else ''} in {duration(time.monotonic() - start)}"
        )
    if stopped_by is not None:
        raise typer.Exit(stopped_by.exit_code)
    if interrupted:
        raise typer.Exit(INTERRUPTED)
    if failures:
        raise typer.Exit(SOME_FAILED if classes or passed else ALL_FAILED)


@dataclass(frozen=True)
class Row:
    """What is told of one file.

    Attributes:
        file: its path.
        found: its class, such as ``clean`` or ``noise+rain``; empty where it has none.
        sure: how sure that is, in [0, 1]; None where it has none.
        sigma: standard deviation of the noise in units of 1/255.
        probabilities: of each degradation, the most probable first where only some are told.
        left_alone, error: why it has none.
        placed: where it was put.
    """

    file: Path
    found: str = ""
    sure: float | None = None
    sigma: float | None = None
    probabilities: Mapping[str, float] = field(default_factory=dict)
    left_alone: str | None = None
    error: str | None = None
    placed: Path | None = None

    @staticmethod
    def of(finding: Finding, threshold: float, top: int | None) -> Row:
        """What is told of a finding; of the probabilities the ``top`` highest, or all."""
        from pipcli.batch.classify import certainty, class_name

        diagnosis = finding.diagnosis
        if diagnosis is None:
            return Row(finding.file.name, left_alone=finding.left_alone, error=finding.error)
        chances = diagnosis.probabilities.items()
        told = chances if top is None else sorted(chances, key=lambda item: -item[1])[:top]
        return Row(
            finding.file.name,
            class_name(diagnosis, threshold),
            round(certainty(diagnosis, threshold), 4),
            round(diagnosis.sigma, 2),
            {str(kind): round(probability, 4) for kind, probability in told},
            placed=finding.placed,
        )


def as_json_line(row: Row) -> str:
    """A row as a line of JSON."""
    line = asdict(row) | {
        "file": str(row.file),
        "found": row.found or None,
        "placed": None if row.placed is None else str(row.placed),
    }
    return json.dumps(line)


_COLUMNS = ("file", "found", "sure", "sigma", *map(str, Degradation), "left_alone", "error", "placed")


def as_csv_line(row: Row) -> str:
    """A row as a line of CSV, below a header of the same columns."""
    from pipcli.images.naming import shown

    values = asdict(row) | dict(row.probabilities) | {"file": shown(row.file)}
    values["placed"] = "" if row.placed is None else shown(row.placed)
    return csv_line([values.get(column) for column in _COLUMNS])


def csv_line(values: Sequence[object]) -> str:
    """Values as a line of CSV; None is empty."""
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="").writerow(values)
    return buffer.getvalue()


@dataclass(frozen=True)
class Table:
    """Lines for people.

    Attributes:
        width: of the column of names.
        top: how many degradations are shown, or None for the class.
        narrow: these stand in short words, and not below each other, to leave room for the names.
    """

    width: int
    top: int | None
    narrow: bool = False

    @staticmethod
    def fitting(sources: Sequence[Path], top: int | None) -> Table:
        """A table whose names have the room that they need; on a terminal, the room that there is."""
        from pipcli.images.naming import shown

        needed = max((len(shown(source)) for source in sources), default=0)
        narrow = False
        if sys.stdout.isatty():
            columns = shutil.get_terminal_size().columns
            others = _FOUND + 15 if top is None else 7 + (2 + _PAIR) * top
            if top is not None and min(needed, _NARROWEST) + others > columns:
                narrow = True
                words = [_SHORT.get(kind, kind) for kind in map(str, Degradation)]
                others = 7 + sum(sorted(len(f"  {word} 0.00") for word in words)[-top:])
            needed = min(needed, max(_NARROWEST, columns - others))
        return Table(max(needed, len("file")), top, narrow)

    @property
    def header(self) -> str:
        """The names of the columns."""
        if self.top is None:
            return f"{'file':<{self.width}}  {'found':<{_FOUND}}  sure  sigma"
        short = "; ".join(f"{short} is {word}" for word, short in _SHORT.items())
        return f"{'file':<{self.width}}  sigma  most probable{f' ({short})' if self.narrow else ''}"

    def line(self, row: Row) -> str | None:
        """A row; None for a file that failed, of which an error is told."""
        from pipcli.images.naming import shown

        if row.error is not None:
            return None
        name = _shortened(shown(row.file), self.width)
        if row.left_alone is not None:
            return f"{name:<{self.width}}  left alone: {row.left_alone}"
        sigma = f"{row.sigma:5.1f}" if "noise" in row.found else f"{'-':>5}"
        if self.top is None:
            return f"{name:<{self.width}}  {row.found:<{_FOUND}}  {row.sure:4.2f}  {sigma}"
        if self.narrow:
            pairs = [f"{_SHORT.get(kind, kind)} {chance:.2f}" for kind, chance in row.probabilities.items()]
        else:
            pairs = [f"{kind} {chance:.2f}".ljust(_PAIR) for kind, chance in row.probabilities.items()]
        return f"{name:<{self.width}}  {sigma}  {'  '.join(pairs)}".rstrip()


def _shortened(name: str, width: int) -> str:
    """A name in so many characters; its end tells most."""
    return name if len(name) <= width else "…" + name[len(name) - width + 1 :]
