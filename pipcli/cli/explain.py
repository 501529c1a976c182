"""``pipcli explain``: what the prompts do to an image, or over a folder how they tell degradations apart."""

from __future__ import annotations

import os
import sys
from collections import Counter
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Annotated

import typer

from pipcli import __version__
from pipcli.cli.accounts import passed_over
from pipcli.cli.messages import complain, say
from pipcli.cli.options import DeviceName, DeviceOption, PrecisionName, PrecisionOption, TileOption
from pipcli.degradations import TASKS, Degradation
from pipcli.errors import ALL_FAILED, SOME_FAILED, ImageError, UsageError
from pipcli.models.zoo import DEFAULT_CLASSIFIER, DEFAULT_MODEL

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from pipcli.batch.plan import Listing
    from pipcli.images import Image
    from pipcli.inference.diagnosis import Diagnoser
    from pipcli.inference.engine import Restorer
    from pipcli.reports.prompts import ImageExplanation, PromptMap

FEWEST, MOST = 3, 400
"""Images that a map of prompts is drawn of; of more, so many spread evenly are taken: their prompts are held
in memory, some 0.4 MB each."""
CLEAN = "clean"


def explain(
    source: Annotated[
        Path,
        typer.Argument(
            metavar="IN",
            help="An image; or a folder, whose images count as what their own folder is called (noise, rain, "
            "haze, blur, lowlight), else as what the classifier finds in them.",
            show_default=False,
        ),
    ],
    target: Annotated[
        Path,
        typer.Argument(
            metavar="OUT", help="The .html page or .png picture (pipcli[plots]) to write.", show_default=False
        ),
    ],
    model: Annotated[
        str, typer.Option(help="A name that `pipcli models` lists, or a .safetensors file.")
    ] = DEFAULT_MODEL,
    classifier: Annotated[
        str, typer.Option(metavar="NAME", help="Another classifier, such as a .safetensors file.")
    ] = DEFAULT_CLASSIFIER,
    device: DeviceOption = DeviceName.AUTO,
    precision: PrecisionOption = PrecisionName.AUTO,
    tile: TileOption = 512,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace OUT where it is there.")] = False,
) -> None:
    """Show what the prompts do.

    One image, restored for each degradation; or a folder, how its images' prompts lie.
    """
    from pipcli.batch.plan import require_writable
    from pipcli.images.atomic import write_bytes
    from pipcli.images.naming import shown

    drawn = target.suffix.lower() == ".png"
    if not drawn and target.suffix.lower() not in (".html", ".htm"):
        raise UsageError(f"{shown(target)}: its suffix names neither an .html page nor a .png picture")
    if not source.exists():
        raise UsageError(f"{shown(source)}: there is no such file or folder")
    if target.is_dir() or (os.path.lexists(target) and not overwrite):
        raise UsageError(f"{shown(target)}: is there already; --overwrite replaces a file")
    if target.exists() and source.samefile(target):
        raise UsageError(f"{shown(target)}: is the input itself")
    if drawn:
        from pipcli.reports.figures import require_matplotlib

        require_matplotlib()
    require_writable(target.parent)

    from pipcli.inference.device import choose_device, choose_precision
    from pipcli.inference.diagnosis import Diagnoser
    from pipcli.inference.engine import Restorer
    from pipcli.models import zoo
    from pipcli.models.checkpoint import sha256_of

    where = choose_device(device.value)
    restorer = Restorer(zoo.load_model(model), where, choose_precision(precision.value, where), tile)
    diagnoser = Diagnoser(zoo.load_classifier(classifier), where)
    facts = (
        ("input", shown(source)),
        ("model", f"{model}, sha256 {sha256_of(zoo.locate(model).path)[:16]}"),
        ("classifier", classifier),
        ("computed", f"on {where.type} in {restorer.precision}"),
        ("program", f"pipcli {__version__}"),
    )
    failures: tuple[str, ...] = ()
    if source.is_dir():
        prompts, failures = map_folder(source, restorer, diagnoser, facts)
        if prompts is None:
            raise typer.Exit(ALL_FAILED)
        content = _drawn_map(prompts, drawn)
    else:
        try:
            content = _drawn_image(explain_image(source, restorer, diagnoser, facts), drawn)
        except ImageError as error:
            complain(str(error))
            raise typer.Exit(ALL_FAILED) from None
    target.parent.mkdir(parents=True, exist_ok=True)
    write_bytes(target, content)
    say(f"written: {shown(target)}, {len(content) / 1e6:.1f} MB")
    raise typer.Exit(SOME_FAILED if failures else 0)


def explain_image(
    path: Path, restorer: Restorer, diagnoser: Diagnoser, facts: tuple[tuple[str, str], ...]
) -> ImageExplanation:
    """One image under each one-hot ω, and what the classifier makes of it.

    Raises:
        ImageError: it cannot be read, or has several pages.
    """
    from pipcli.images.naming import shown
    from pipcli.inference.diagnosis import DEFAULT_THRESHOLD
    from pipcli.inference.explaining import mean_change, restored_for_each
    from pipcli.reports.prompts import Belief, ImageExplanation, Restoration
    from pipcli.reports.restored import shown_parts

    image = _read_single(path)
    diagnosis = diagnoser.diagnose(image)
    words = {degradation: task for task, degradation in TASKS.items()}
    restorations = [
        Restoration(words[degradation], mean_change(image, restored), shown_parts(restored))
        for degradation, restored in restored_for_each(restorer, image)
    ]
    return ImageExplanation(
        f"What the prompts do: {shown(path.name)}",
        (*facts, ("size", f"{image.width}×{image.height}")),
        shown_parts(image),
        tuple(restorations),
        tuple(Belief(str(kind), probability) for kind, probability in diagnosis.probabilities.items()),
        diagnosis.sigma,
        DEFAULT_THRESHOLD,
    )


def map_folder(
    folder: Path, restorer: Restorer, diagnoser: Diagnoser, facts: tuple[tuple[str, str], ...]
) -> tuple[PromptMap | None, tuple[str, ...]]:
    """The prompts of a folder's images, and why some could not be read; None where none could.

    Images that are neither in a folder of a degradation's name nor found to have one are left out, and those
    of degradations that the model does not know.

    Raises:
        UsageError: there are too few images, or the model has no prompts.
    """
    from tqdm import tqdm

    from pipcli.batch.inputs import Named
    from pipcli.batch.plan import list_files
    from pipcli.images.naming import shown
    from pipcli.inference.explaining import principal_plane, prompt_angles, prompted_levels, universal_prompts
    from pipcli.reports.prompts import Opinion, PromptLevel, PromptMap

    levels = prompted_levels(restorer.model)
    listing = list_files([Named(folder, PurePath())])
    images = [file for file in listing.files if not file.dicom]
    _tell_left_alone(listing)
    taken = images[:: -(-len(images) // MOST) or 1]
    if len(taken) < len(images):
        say(f"taken: {len(taken)} of {len(images)} images, spread evenly")
    names: list[str] = []
    kinds: list[Degradation] = []
    vectors: list[list[NDArray[np.float32]]] = []
    opinions: dict[Degradation, Counter[str]] = {kind: Counter() for kind in restorer.degradations}
    failures = [*listing.failures]
    for failure in failures:
        complain(failure)
    clean = unknown = 0
    hidden = not sys.stderr.isatty()
    for file in tqdm(taken, unit="file", file=sys.stderr, disable=hidden, leave=False):
        try:
            image = _read_single(file.source)
            present = diagnoser.diagnose(image).present()
            kind = degradation_of_folder(folder, file.below) or next(iter(present), None)
            if kind is None:
                clean += 1
                continue
            if kind not in restorer.degradations:
                unknown += 1
                continue
            vectors.append(universal_prompts(restorer, image, kind))
        except ImageError as error:
            failures.append(str(error))
            complain(str(error))
            continue
        names.append(shown(file.below))
        kinds.append(kind)
        opinions[kind][" and ".join(map(str, present)) or CLEAN] += 1
    if clean:
        say(f"left out: {clean} of {len(taken)} images, which the classifier takes for clean")
    if unknown:
        say(f"left out: {unknown} of {len(taken)} images, whose degradation the model was not trained for")
    if failures and not names:
        return None, tuple(failures)
    if len(names) < FEWEST:
        raise UsageError(
            f"{shown(folder)}: holds {len(names)} degraded images, a map needs at least {FEWEST}"
        )
    angles = prompt_angles(restorer.model)
    drawn = []
    for index, level in enumerate(levels):
        points, shares = principal_plane([each[index] for each in vectors])
        scale = "full resolution" if level.index == 0 else f"1/{2**level.index} of the resolution"
        title = f"Skip at {scale}: prompts of {level.channels}×{level.size}×{level.size}"
        drawn.append(PromptLevel(title, points, shares, angles[index]))
    counts = (
        f"{len(names)} in the map",
        f"{clean} clean left out",
        *((f"{unknown} of other degradations left out",) if unknown else ()),
        f"{len(failures)} failed",
    )
    prompts = PromptMap(
        f"Prompts by degradation: {shown(folder)}",
        (*facts, ("images", ", ".join(counts))),
        tuple(map(str, restorer.degradations)),
        tuple(names),
        tuple(restorer.degradations.index(kind) for kind in kinds),
        tuple(drawn),
        tuple(
            Opinion(str(kind), counted.total(), tuple(counted.most_common()))
            for kind, counted in opinions.items()
            if counted
        ),
    )
    return prompts, tuple(failures)


def _tell_left_alone(listing: Listing) -> None:
    """How many files of a folder are in no map, whatever they show."""
    dicom = sum(file.dicom for file in listing.files)
    kinds = [passed_over(listing), f"{dicom} DICOM" if dicom else ""]
    if any(kinds):
        say(f"left alone: {', '.join(filter(None, kinds))}")


def degradation_of_folder(root: Path, path: PurePath) -> Degradation | None:
    """What the nearest folder above an image is named after, up to the root itself; None for other names."""
    words = {str(degradation) for degradation in Degradation}
    for name in (*reversed(path.parent.parts), root.resolve().name):
        if name.lower() in words:
            return Degradation(name.lower())
    return None


def _read_single(path: Path) -> Image:
    from pipcli.images import read_image
    from pipcli.images.naming import shown

    image = read_image(path)
    if image.further:
        raise ImageError(
            f"{shown(path)}: has {1 + len(image.further)} pages, one image is explained at a time"
        )
    return image


def _drawn_image(explanation: ImageExplanation, drawn: bool) -> bytes:
    if drawn:
        from pipcli.reports.prompts_figure import image_figure

        return image_figure(explanation)
    from pipcli.reports.prompts_page import image_page

    return image_page(explanation).encode("utf-8")


def _drawn_map(prompts: PromptMap, drawn: bool) -> bytes:
    if drawn:
        from pipcli.reports.prompts_figure import map_figure

        return map_figure(prompts)
    from pipcli.reports.prompts_page import map_page

    return map_page(prompts).encode("utf-8")
