"""What a benchmark is, how its folders may be laid out, and its pairs on this machine.

Pairs are made by name, never by order.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from pipcli.degradations import Degradation
from pipcli.errors import ImageError, UsageError
from pipcli.evaluation.matlab import Block, stack_shape
from pipcli.evaluation.reading import Source
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
class StackLayout:
    """Two MATLAB files that hold a set's images (see `pipcli.evaluation.matlab`), relative as in `Layout`.

    Attributes:
        clean: file of the true images.
        degraded: file of the inputs; equal scenes and blocks are a pair.
    """

    clean: str
    degraded: str


@dataclass(frozen=True)
class Dataset:
    """A benchmark.

    Attributes:
        name: as papers write it.
        weights: what ails its inputs, the right ω; empty where a degradation has to be added first.
        beyond: what else ails them, that no task undoes.
        images: how many inputs the whole set has; None where nobody has said, or for a folder of one's own.
        layouts: known ways of laying out its folders, tried in this order.
        source: where it was published.
        licence: what is known of its terms.
        page: address of its authors' page, or of where most papers get it; empty where none was looked up.
        aliases: other names for it.
        note: what a reader of its figures must know.
        verified: whether ``images`` was counted on a copy and not only read.
    """

    name: str
    weights: Mapping[Degradation, float]
    images: int | None
    layouts: tuple[Layout | StackLayout, ...]
    source: str = ""
    licence: str = "see its page"
    page: str = ""
    aliases: tuple[str, ...] = ()
    note: str = ""
    verified: bool = False
    beyond: tuple[str, ...] = ()

    @property
    def paired(self) -> bool:
        """Whether the set brings its inputs along."""
        return any(layout.degraded is not None for layout in self.layouts)

    @property
    def steps(self) -> str:
        """How to get the set and where to put it, one step a line."""
        layout = self.layouts[0]
        where = f"get it from {self.page}" if self.page else f"get it from its authors: {self.source}"
        lines = [f"{where} (licence: {self.licence})"]
        if layout.degraded is None:
            lines.append(f"put the clean images into {layout.clean}/ below a data root")
        elif isinstance(layout, StackLayout):
            lines.append(f"put the inputs there as {layout.degraded} and the true images as {layout.clean}")
        else:
            lines.append(f"put the inputs into {layout.degraded}/ and the true images into {layout.clean}/")
        lines.append("a data root is --data-root, $PIPCLI_DATA, ./data or ../shared/data")
        return "\n".join(lines)


@dataclass(frozen=True)
class Pair:
    """One input and its true image; without an input of its own, one is to be made from the true image."""

    name: str
    clean: Source
    degraded: Source | None


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
                found = (
                    read_stack_layout(base, layout)
                    if isinstance(layout, StackLayout)
                    else read_layout(base, layout)
                )
                if found is not None:
                    return found
    return None


def own_folder(clean: Path, degraded: Path | None) -> tuple[Dataset, Located]:
    """A set of one's own: a folder of true images, and perhaps one of inputs; equal stems are a pair.

    Its ``weights`` are empty.

    Raises:
        UsageError: a folder is missing or holds no images.
    """
    for folder in (clean, degraded):
        if folder is not None and not folder.is_dir():
            raise UsageError(f"{folder}: is no folder")
    layout = Layout(str(clean), None if degraded is None else str(degraded))
    located = read_layout(Path(), layout)
    if located is None:
        empty = clean if not any(_keyed(Path(), layout.clean, layout.clean_key)) else degraded
        raise UsageError(f"{empty}: holds no images")
    name = (degraded or clean).resolve().name
    return Dataset(name, {}, None, (layout,), source="a folder of one's own"), located


def read_layout(base: Path, layout: Layout) -> Located | None:
    """The pairs of one layout; None where a folder of it is missing or holds no image of the right name."""
    clean = list(_keyed(base, layout.clean, layout.clean_key))
    if layout.degraded is None:
        if not clean:
            return None
        return Located(base, _named_apart([Pair(_joined(key), path, None) for key, _, path in clean]))
    degraded = list(_keyed(base, layout.degraded, layout.degraded_key))
    if not clean or not degraded:
        return None
    return _paired(base, clean, degraded)


def read_stack_layout(base: Path, layout: StackLayout) -> Located | None:
    """The pairs of two MATLAB files, none if these are damaged or do not fit; None where one is missing."""
    clean, degraded = base / layout.clean, base / layout.degraded
    if not (clean.is_file() and degraded.is_file()):
        return None
    try:
        shape, other = stack_shape(clean), stack_shape(degraded)
    except ImageError as error:
        return Located(base, (), (str(error),))
    if shape != other:
        sizes = " and ".join("×".join(map(str, each)) for each in (other, shape))
        return Located(base, (), (f"{degraded}: has another shape than {clean}: {sizes}",))
    return Located(
        base,
        tuple(
            Pair(f"{scene + 1}/{block + 1}", Block(clean, scene, block), Block(degraded, scene, block))
            for scene in range(shape[0])
            for block in range(shape[1])
        ),
    )


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
    return Located(base, _named_apart(pairs), tuple(problems))


def _named_apart(pairs: Sequence[Pair]) -> tuple[Pair, ...]:
    """The pairs, those of one name, such as a.png and a.jpg, with the suffixes of their inputs."""
    counts = Counter(pair.name for pair in pairs)

    def named(pair: Pair) -> Pair:
        source = pair.degraded or pair.clean
        if counts[pair.name] == 1 or not isinstance(source, Path):
            return pair
        return replace(pair, name=f"{pair.name}{source.suffix}")

    return tuple(map(named, pairs))


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
        scene = tuple(place.relative_to(base).parts[index] for index in stars)
        for path in place.iterdir():
            match = expression.fullmatch(path.stem)
            hidden = path.name.startswith(".")
            if match and not hidden and path.suffix.lower() in SUFFIXES and path.is_file():
                found.append(((*scene, path.stem), (*scene, match[1]), path))
    return iter(sorted(found, key=lambda entry: [_natural(part) for part in entry[0]]))


def _natural(text: str) -> list[tuple[int, str]]:
    """Sorts img2 before img10: runs of digits count as numbers."""
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", text) if part]
