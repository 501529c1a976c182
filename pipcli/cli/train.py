"""``pipcli train``: a recipe and a folder of photographs in, weights out."""

from __future__ import annotations

import dataclasses
import math
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pipcli.cli.messages import say
from pipcli.errors import INTERRUPTED, UsageError

if TYPE_CHECKING:
    from pipcli.training.pace import Progress
    from pipcli.training.recipe import Recipe


def train(
    recipe: Annotated[
        str,
        typer.Argument(metavar="RECIPE", help="A TOML file, or the name of one of the package's recipes."),
    ],
    data: Annotated[
        Path,
        typer.Option(
            metavar="DIR", help="Folder with photos/, lol/{low,high}/, frames/<scene>/ and ct/<series>/."
        ),
    ],
    out: Annotated[Path, typer.Option(metavar="DIR", help="Folder of the run: log, checkpoint, weights.")],
    minutes: Annotated[
        float | None, typer.Option(help="Length of the run, in place of the recipe's.", show_default=False)
    ] = None,
    steps: Annotated[
        int | None,
        typer.Option(
            help="Length of the run in optimiser steps; 0 keeps the weights of --init, validated, a "
            "classifier's calibrated.",
            show_default=False,
        ),
    ] = None,
    changes: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="KEY=VALUE",
            help="Change an entry of the recipe, as TOML writes it: --set loss.fft=0.1. May be repeated.",
            show_default=False,
        ),
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from OUT's checkpoint.")] = False,
    init: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="WEIGHTS",
            help="Start from these; what they lack starts without effect. Several times: from their mean.",
            show_default=False,
        ),
    ] = None,
    ct: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Folder of CT series as DICOM, in place of DATA's ct/; the recipe's data.ct says how many "
            "of the noisy crops are cut from them.",
        ),
    ] = None,
) -> None:
    """Train a model. Under torchrun, several processes share the work.

    The learning rate reaches zero when the minutes (or steps) end. SIGTERM and Ctrl-C end the run with a
    checkpoint, from which --resume goes on.
    """
    from pipcli.training.classifier_recipe import (
        ClassifierRecipe,
        is_classifier_recipe,
        load_classifier_recipe,
    )
    from pipcli.training.recipe import load_recipe

    chosen: Recipe | ClassifierRecipe
    load = load_classifier_recipe if is_classifier_recipe(recipe) else load_recipe
    chosen = load(recipe, changes or ())
    if isinstance(chosen, ClassifierRecipe) and ct is not None:
        raise UsageError(f"--ct is not for a classifier, which {recipe} trains")
    starts = tuple(init or ())
    if minutes is not None and steps is not None:
        raise UsageError("--minutes and --steps exclude each other")
    if minutes is not None and not 0 < minutes < math.inf:
        raise UsageError(f"--minutes is {minutes}: it must be a number above 0")
    if steps is not None and steps < 0:
        raise UsageError(f"--steps is {steps}: it must be at least 0")
    if minutes is not None:
        chosen = dataclasses.replace(chosen, minutes=minutes, steps=None)
    elif steps is not None:
        chosen = dataclasses.replace(chosen, minutes=0.0, steps=steps)

    from tqdm import tqdm

    from pipcli.inference.heap import keep_freed_memory
    from pipcli.training.classifier_loop import train_classifier
    from pipcli.training.loop import train as train_model

    keep_freed_memory()
    chief = os.environ.get("RANK", "0") == "0"
    hidden = not (chief and sys.stderr.isatty())
    form = "{l_bar}{bar}| {elapsed}<{remaining}{postfix}"
    with tqdm(total=1.0, file=sys.stderr, disable=hidden, bar_format=form) as bar:

        def report(progress: Progress) -> None:
            bar.update(progress.done - bar.n)
            bar.set_postfix_str(
                f"step {progress.step}, loss {progress.loss:.4f}, {progress.examples_per_second:.1f} images/s"
            )
            if progress.validation and chief:
                digits, unit = (3, "") if isinstance(chosen, ClassifierRecipe) else (2, " dB")
                values = progress.validation.items()
                scores = "  ".join(f"{name} {value:.{digits}f}" for name, value in values)
                bar.clear()
                say(f"{progress.minutes:.0f} min, step {progress.step}: {scores}{unit}")

        if isinstance(chosen, ClassifierRecipe):
            weights = train_classifier(chosen, data, out, resume=resume, init=starts, report=report)
        else:
            weights = train_model(chosen, data, out, resume=resume, init=starts, ct=ct, report=report)
    if weights is None:
        if chief:
            say(f"stopped at a checkpoint; the same command with --resume goes on in {out}")
        raise typer.Exit(INTERRUPTED)
    if chief:
        say(f"weights are in {weights}")
