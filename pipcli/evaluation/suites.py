"""Suites: the benchmarks of the paper's tables, and next to them the nearest sets for those who lack one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from pipcli.errors import UsageError
from pipcli.evaluation.catalogue import find_dataset
from pipcli.evaluation.protocols import Protocol
from pipcli.evaluation.runner import Benchmark

Entry = tuple[str, float | None]
"""Name of a set, and σ of the noise to add, of 255, or None."""


@dataclass(frozen=True)
class Suite:
    """Benchmarks to run together.

    Attributes:
        name: as users write it.
        about: the tables that it reproduces where the sets are there.
        entries: in the order of the tables.
    """

    name: str
    about: str
    entries: tuple[Entry, ...]


_THREE: tuple[Entry, ...] = (
    ("CBSD68", 15),
    ("CBSD68", 25),
    ("CBSD68", 50),
    ("SOTS", None),
    ("SOTS-indoor", None),
    ("Rain100L", None),
)
_FIVE: tuple[Entry, ...] = (*_THREE, ("GoPro", None), ("GoPro-like", None), ("LOL", None))
_UNSEEN: tuple[Entry, ...] = (
    ("Urban100", 10),
    ("Urban100", 30),
    ("Urban100", 60),
    ("CBSD68", 10),
    ("CBSD68", 30),
    ("CBSD68", 60),
    ("Rain100H", None),
    ("SIDD", None),
    ("AAPM", 25),
)
_COMPOSITE: tuple[Entry, ...] = (("Rain100L", 25), ("SOTS", 25), ("SOTS-indoor", 25))

SUITES: Mapping[str, Suite] = {
    suite.name: suite
    for suite in (
        Suite("three-task", "PIP's Table 1", _THREE),
        Suite("five-task", "PIP's Table 2", _FIVE),
        Suite("unseen", "PIP's Tables 3 and S6: noise levels and sets that were not trained on", _UNSEEN),
        Suite("composite", "PIP's Tables 3 and S5: noise on top of rain and of haze", _COMPOSITE),
        Suite("all", "all of these", (*_FIVE, *_UNSEEN, *_COMPOSITE)),
    )
}
"""The suites by name."""


def suite_benchmarks(name: str, protocol: Protocol) -> list[Benchmark]:
    """The benchmarks of a suite under a protocol; those with added noise only where the protocol has noise.

    Raises:
        UsageError: no such suite.
    """
    if name not in SUITES:
        raise UsageError(f"unknown suite {name!r}: choose from {', '.join(SUITES)}")
    return [
        Benchmark(find_dataset(dataset), protocol, sigma)
        for dataset, sigma in SUITES[name].entries
        if sigma is None or protocol.noisy is not None
    ]
