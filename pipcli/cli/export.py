"""``pipcli export``: a model as an ONNX, ExportedProgram or safetensors file, proved before it is kept."""

from __future__ import annotations

import re
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pipcli.cli.messages import say
from pipcli.errors import UsageError

if TYPE_CHECKING:
    from pipcli.export.parity import Parity


class FormatName(str, Enum):
    """Words of ``--format``."""

    ONNX = "onnx"
    PT2 = "pt2"
    SAFETENSORS = "safetensors"


class ExportPrecision(str, Enum):
    """Words of ``--precision``."""

    FP32 = "fp32"
    FP16 = "fp16"
    BF16 = "bf16"


def export(
    model: Annotated[
        str,
        typer.Argument(metavar="MODEL", help="A name that `pipcli models` lists, or a .safetensors file."),
    ],
    target: Annotated[
        str, typer.Argument(metavar="OUT", help="The file to write; its parity report is put beside it.")
    ],
    format: Annotated[
        FormatName | None, typer.Option(help="What to write; OUT's suffix says it too.", show_default=False)
    ] = None,
    precision: Annotated[
        ExportPrecision,
        typer.Option(help="What the file computes in; its inputs and output stay fp32. bf16: pt2 only."),
    ] = ExportPrecision.FP32,
    static: Annotated[
        str | None,
        typer.Option(
            metavar="HxW",
            help="Fix the input to one image of this height and width; else all but the channels is free.",
            show_default=False,
        ),
    ] = None,
    classifier: Annotated[
        bool, typer.Option("--classifier", help="MODEL is a classifier, such as pip-classifier.")
    ] = False,
    beside: Annotated[
        str | None,
        typer.Option(
            metavar="FILE",
            help="Leave out what FILE.safetensors in OUT's folder has alike; it is read from there.",
            show_default=False,
        ),
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace OUT and its report where they are there.")
    ] = False,
) -> None:
    """Write a model for other programs.

    The file is proved against the model; the exit code is 8 if they differ.
    """
    size = None if static is None else _parse_size(static)
    path = Path(target)
    word = format.value if format is not None else path.suffix.lower().removeprefix(".")
    words = [member.value for member in FormatName]
    if word not in words:
        raise UsageError(f"{target}: its suffix names no format: give --format {', '.join(words)}")

    from pipcli.export.exporting import Export, Format, export_model

    other = None if beside is None else Path(beside)
    wanted = Export(model, path, Format(word), precision.value, size, classifier, other, overwrite)
    export_model(wanted, on_parity=lambda parity: print("\n".join(_as_lines(parity))))
    say(f"{path}: {path.stat().st_size / 1e6:.1f} MB, written; parity report in {wanted.report}")


def _parse_size(text: str) -> tuple[int, int]:
    match = re.fullmatch(r"(\d{1,6})[x×](\d{1,6})", text)
    if match is None:
        raise UsageError(f"--static is {text!r}: it must be HEIGHTxWIDTH, such as 512x512")
    return int(match[1]), int(match[2])


def _as_lines(parity: Parity) -> list[str]:
    lines = [f"{'batch':>5} {'height':>6} {'width':>6} {'largest difference':>19} {'PSNR':>9}"]
    for trial in parity.trials:
        largest = "-" if trial.largest is None else f"{trial.largest:.1e}"
        psnr = "equal" if trial.largest == 0 else "-" if trial.psnr is None else f"{trial.psnr:.1f} dB"
        problem = f"  {trial.problem}" if trial.problem else ""
        lines.append(f"{trial.batch:>5} {trial.height:>6} {trial.width:>6} {largest:>19} {psnr:>9}{problem}")
    lines.append(f"parity {'passed' if parity.passed else 'FAILED'}: {parity.limit}")
    return lines
