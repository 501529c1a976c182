"""The benchmarks: what each holds, how its folders are laid out, and its pairs on this machine.

Pairs are made by name, never by order. Counts of sets that were not at hand are those of their authors.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pipcli.degradations import Degradation
from pipcli.errors import UsageError
from pipcli.images.formats import SUFFIXES

ROOT_VARIABLE = "PIPCLI_DATA"
DEFAULT_ROOTS = ("data", "../shared/data")


@dataclass(frozen=True)
class Layout:
    """Where a set's files lie, relative to a root or to a folder ``test`` in it.

    Attributes:
        clean: folder of the true images; ``*`` stands for one folder of any name.
        degraded: folder of the inputs; None where they are made from the clean ones.
        clean_key, degraded_key: regular expressions for a file's whole stem. Files whose first groups (and
            folders at ``*``) are equal are a pair; a true image may have several inputs.
    """

    clean: str
    degraded: str | None = None
    clean_key: str = "(.+)"
    degraded_key: str = "(.+)"


@dataclass(frozen=True)
class Dataset:
    """A benchmark.

    Attributes:
        name: as papers write it.
        weights: what ails its inputs, the right ω; empty where a degradation has to be added first.
        images: how many inputs the whole set has; None for a folder of one's own.
        verified: whether that number was counted on a copy, not only read in a paper.
        layouts: known ways of laying out its folders, tried in this order.
        protocol: the protocol under which its figures are usually given.
        source: where it was published.
        licence: what is known of its terms.
        steps: how to get it and where to put it.
        aliases: other names for it.
        note: what a reader of its figures must know.
    """

    name: str
    weights: Mapping[Degradation, float]
    images: int | None
    verified: bool
    layouts: tuple[Layout, ...]
    source: str
    licence: str = ""
    steps: str = ""
    protocol: str = "airnet"
    aliases: tuple[str, ...] = ()
    note: str = ""

    @property
    def paired(self) -> bool:
        """Whether the set brings its inputs along."""
        return any(layout.degraded is not None for layout in self.layouts)


@dataclass(frozen=True)
class Pair:
    """One input and its true image; without an input of its own, one is to be made from the true image."""

    name: str
    clean: Path
    degraded: Path | None


@dataclass(frozen=True)
class Located:
    """A set on this machine.

    Attributes:
        root: the folder that its layout is relative to.
        pairs: in the natural order of their names.
        problems: one line for each file without a partner.
    """

    root: Path
    pairs: tuple[Pair, ...]
    problems: tuple[str, ...] = ()


NOISE, RAIN, HAZE, BLUR, LOWLIGHT = Degradation


DATASETS: tuple[Dataset, ...] = (
    Dataset(
        "CBSD68",
        {},
        68,
        verified=True,
        layouts=(Layout("CBSD68"), Layout("CBSD68/original_png"), Layout("BSD68"), Layout("denoise/bsd68")),
        source="Martin et al., ICCV 2001; the 68 colour test images of Roth and Black, IJCV 2009",
        aliases=("BSD68",),
    ),
    Dataset(
        "Rain100L",
        {RAIN: 1.0},
        100,
        verified=True,
        layouts=(
            Layout("Rain100L/target", "Rain100L/input"),
            Layout("derain/Rain100L/target", "derain/Rain100L/input"),
            Layout("Rain100L", "Rain100L/rainy", clean_key=r"norain-(\d+)", degraded_key=r"rain-(\d+)"),
        ),
        source="Yang et al., CVPR 2017",
    ),
    Dataset(
        "SOTS-indoor",
        {HAZE: 1.0},
        500,
        verified=False,
        layouts=(
            Layout("SOTS-indoor/GT", "SOTS-indoor/hazy", r"(\d+)(?:_\d+)?", r"(\d+)_\d+"),
            Layout("SOTS/indoor/gt", "SOTS/indoor/hazy", r"(\d+)", r"(\d+)_\d+"),
        ),
        source="Li et al. (RESIDE), IEEE TIP 2019",
    ),
    Dataset(
        "LOL",
        {LOWLIGHT: 1.0},
        15,
        verified=True,
        layouts=(Layout("LOL/eval15/high", "LOL/eval15/low"), Layout("eval15/high", "eval15/low")),
        source="Wei et al. (Retinex-Net), BMVC 2018",
        note="14 of its 15 scenes have a near-twin in the training set our485",
    ),
    Dataset(
        "GoPro-like",
        {BLUR: 1.0},
        7,
        verified=True,
        layouts=(Layout("GoPro-like/sharp", "GoPro-like/blur"),),
        source="scenes of GoPro's test set (Nah et al., CVPR 2017), plain averages of 8 to 10 frames",
        note="not the official GoPro test set",
    ),
)
"""Every benchmark that has a name."""


def find_dataset(name: str) -> Dataset:
    """The benchmark of a name, in any case.

    Raises:
        UsageError: no such benchmark.
    """
    for dataset in DATASETS:
        if name.casefold() in {word.casefold() for word in (dataset.name, *dataset.aliases)}:
            return dataset
    raise UsageError(f"unknown dataset {name!r}: choose from {', '.join(each.name for each in DATASETS)}")


def data_roots(given: Path | None) -> tuple[Path, ...]:
    """Where to look for benchmarks: the given folder alone, else $PIPCLI_DATA, ./data and ../shared/data.

    Raises:
        UsageError: the given folder is none.
    """
    if given is not None:
        if not given.is_dir():
            raise UsageError(f"--data-root {given}: is no folder")
        return (given,)
    override = os.environ.get(ROOT_VARIABLE)
    return tuple(Path(name) for name in ([override] if override else []) + list(DEFAULT_ROOTS))


def locate(dataset: Dataset, roots: Sequence[Path]) -> Located | None:
    """The first copy of a set under the roots, or None."""
    for root in roots:
        for base in (root, root / "test"):
            for layout in dataset.layouts:
                found = read_layout(base, layout)
                if found is not None:
                    return found
    return None


def read_layout(base: Path, layout: Layout) -> Located | None:
    """The pairs of one layout; None where a folder of it is missing or holds no image of the right name."""
    clean = list(_keyed(base, layout.clean, layout.clean_key))
    if layout.degraded is None:
        if not clean:
            return None
        return Located(base, tuple(Pair(_joined(key), path, None) for key, _, path in clean))
    degraded = list(_keyed(base, layout.degraded, layout.degraded_key))
    if not clean or not degraded:
        return None
    return _paired(base, clean, degraded)


_Key = tuple[str, ...]


def _paired(
    base: Path, clean: Sequence[tuple[_Key, _Key, Path]], degraded: Sequence[tuple[_Key, _Key, Path]]
) -> Located:
    """Pairs by key, and a line for each file that is left over."""
    problems: list[str] = []
    truths: dict[_Key, Path] = {}
    for _, key, path in clean:
        if key in truths:
            problems.append(f"{path}: has the name of {truths[key].name} too, which stays")
        else:
            truths[key] = path
    partnered: set[_Key] = set()
    pairs: list[Pair] = []
    for name, key, path in degraded:
        if key in truths:
            pairs.append(Pair(_joined(name), truths[key], path))
            partnered.add(key)
        else:
            problems.append(f"{path}: has no true image")
    problems.extend(f"{path}: has no input" for key, path in truths.items() if key not in partnered)
    return Located(base, tuple(pairs), tuple(problems))


def _joined(name: _Key) -> str:
    return "/".join(name)


def _keyed(base: Path, folder: str, pattern: str) -> Iterator[tuple[_Key, _Key, Path]]:
    """(name, key, path) of each image whose stem fits the pattern, in natural order of the names."""
    expression = re.compile(pattern)
    stars = [index for index, part in enumerate(folder.split("/")) if part == "*"]
    found = []
    for place in sorted(base.glob(folder)) if stars else [base / folder]:
        if not place.is_dir():
            continue
        parts = place.relative_to(base).parts
        scene = tuple(parts[index] for index in stars)
        for path in place.iterdir():
            match = expression.fullmatch(path.stem)
            hidden = path.name.startswith(".")
            if match and not hidden and path.suffix.lower() in SUFFIXES and path.is_file():
                found.append(((*scene, path.stem), (*scene, match[1]), path))
    return iter(sorted(found, key=lambda entry: [_natural(part) for part in entry[0]]))


def _natural(text: str) -> list[tuple[int, str]]:
    """Sorts img2 before img10: runs of digits count as numbers."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", text) if part]
