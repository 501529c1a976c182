"""``pipcli models``: what models there are, where their weights lie, and whether these are whole."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pipcli.cli.messages import complain
from pipcli.errors import ModelError

if TYPE_CHECKING:
    from pipcli.models.backbone import RestorationModel
    from pipcli.models.classifier import Classifier


@dataclass(frozen=True)
class Listing:
    """What is known of one model or classifier of the tables.

    Attributes:
        name: for ``--model``, of a classifier for ``--classifier``.
        summary: what it is for.
        architecture: word of its architecture.
        parameters: how many numbers were trained; None where there are no weights to count.
        bytes: size of the weights file; None where there is none.
        degradations: what it can undo, in the order of ω; of a classifier, what it can find.
        path: the weights file; None where there is none.
        beside: name of the file in the same folder to which it leaves a part of its weights; None where it
            has all of them.
        sha256: of the shipped file; of the file found where the user's own replaces that.
        own: the file is from $PIPCLI_WEIGHTS and exempt from the check.
        verified: the file has the hash; None where that was not asked or does not apply.
        config: of the architecture; None where there is no file to ask.
        training: how the weights came about: recipe, steps, minutes, validation, what they started from.
        licence: of the weights.
        problem: why the model cannot be used; None where it can.
    """

    name: str
    summary: str
    architecture: str
    parameters: int | None = None
    bytes: int | None = None
    degradations: tuple[str, ...] = ()
    path: str | None = None
    beside: str | None = None
    sha256: str | None = None
    own: bool = False
    verified: bool | None = None
    config: dict[str, Any] | None = None
    training: dict[str, Any] | None = None
    licence: str | None = None
    problem: str | None = None


def models(
    verify: Annotated[
        bool,
        typer.Option("--verify", help="Check each weights file against its hash; 5 if one is not right."),
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="A line of JSON for each model.")] = False,
) -> None:
    """List the models and classifiers, and where their weights lie."""
    from pipcli.models import zoo

    listings = [describe(name, verify) for name in (*zoo.MODELS, *zoo.CLASSIFIERS)]
    for listing in listings:
        print(json.dumps(asdict(listing)) if as_json else _as_text(listing))
    problems = [listing.problem for listing in listings if listing.problem is not None]
    for problem in problems:
        complain(problem)
    if verify and problems:
        raise typer.Exit(ModelError.exit_code)


def describe(name: str, verify: bool) -> Listing:
    """What is known of a model or classifier of the tables; with ``verify`` its hash is checked."""
    from pipcli.models import zoo
    from pipcli.models.checkpoint import (
        architecture_of,
        load_classifier_weights,
        load_weights,
        read_record,
        sha256_of,
    )

    classifies = name in zoo.CLASSIFIERS
    table = zoo.CLASSIFIERS if classifies else zoo.MODELS
    entry = table[name]
    listing = Listing(name, entry.summary, entry.architecture, sha256=entry.sha256)
    try:
        located = zoo.locate(name, table)
        own = located.expected_sha256 is None
        listing = replace(
            listing,
            path=str(located.path),
            bytes=located.path.stat().st_size,
            own=own,
            sha256=sha256_of(located.path) if own else entry.sha256,
            verified=False if verify and not own else None,
        )
        record = read_record(located.path)
        # The zoo's own loading is what checks the hash.
        model: RestorationModel | Classifier
        if classifies:
            model = zoo.load_classifier(name) if verify else load_classifier_weights(located.path)
        else:
            model = zoo.load_model(name) if verify else load_weights(located.path)
    except ModelError as error:
        return replace(listing, problem=str(error))
    return replace(
        listing,
        architecture=architecture_of(model),
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        degradations=tuple(map(str, model.degradations)),
        verified=True if verify and not own else None,
        beside=record["beside"]["file"] if "beside" in record else None,
        config=record["config"],
        training=record.get("training"),
        licence=record.get("licence"),
    )


def _as_text(listing: Listing) -> str:
    """A paragraph that fits 80 columns as long as the path does."""
    numbers = [listing.architecture]
    if listing.parameters is not None:
        numbers.append(f"{listing.parameters:,} parameters")
    if listing.bytes is not None:
        numbers.append(f"{listing.bytes / 1e6:.1f} MB")
    state = {
        True: " (verified)",
        False: " (NOT verified)",
        None: " (yours, not checked)" if listing.own else "",
    }
    lines = [
        f"{listing.name}: {listing.summary}",
        f"  architecture {', '.join(numbers)}",
        f"  degradations {', '.join(listing.degradations) or 'unknown'}",
        f"  weights      {listing.path or 'missing'}{state[listing.verified]}",
        f"  sha256       {listing.sha256}",
    ]
    if listing.beside is not None:
        lines.insert(-1, f"               the rest of them in {listing.beside} beside it")
    return "\n".join(lines)
