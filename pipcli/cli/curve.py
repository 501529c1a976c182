"""``pipcli curve``: a training run's validation as a picture."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pipcli.cli.messages import say
from pipcli.errors import UsageError


def curve(
    run: Annotated[
        Path,
        typer.Argument(metavar="RUN", help="Folder that `pipcli train --out` made.", show_default=False),
    ],
    target: Annotated[
        Path, typer.Argument(metavar="OUT", help="The .png picture to write.", show_default=False)
    ],
    title: Annotated[
        str | None, typer.Option(help="In place of the folder's name.", show_default=False)
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace OUT where it is there.")] = False,
) -> None:
    """Draw the validation of a training run.

    Each score over the minutes, and the learning rate, from the run's log. Needs pipcli[plots].
    """
    from pipcli.batch.plan import require_writable
    from pipcli.images.atomic import write_bytes
    from pipcli.images.naming import shown
    from pipcli.reports.figures import require_matplotlib
    from pipcli.reports.training_curve import curve_figure, read_log

    if target.suffix.lower() != ".png":
        raise UsageError(f"{shown(target)}: its suffix does not name a .png picture")
    if target.is_dir() or (target.exists() and not overwrite):
        raise UsageError(f"{shown(target)}: is there already; --overwrite replaces a file")
    require_matplotlib()
    require_writable(target.parent)
    validations = read_log(run / "log.jsonl")
    content = curve_figure(validations, title or run.resolve().name)
    target.parent.mkdir(parents=True, exist_ok=True)
    write_bytes(target, content)
    say(f"written: {shown(target)}, {len(validations)} validations")
