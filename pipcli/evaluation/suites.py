"""Suites: the benchmarks of the paper's tables, and next to them the nearest sets for those who lack one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pipcli.errors import UsageError
from pipcli.evaluation.catalogue import find_dataset
from pipcli.evaluation.protocols import DEFAULT_PROTOCOL, Protocol
from pipcli.evaluation.published import TABLE_1, TABLE_2, TABLE_3, Column
from pipcli.evaluation.runner import Benchmark
from pipcli.reports.benchmark import Average


@dataclass(frozen=True)
class Suite:
    """Benchmarks to run together.

    Attributes:
        name: as users write it.
        about: the tables that it reproduces where the sets are there.
        entries: in the order of the tables.
        averages: names of the tables whose mean it ends with.
    """

    name: str
    about: str
    entries: tuple[Column, ...]
    averages: tuple[str, ...] = ()


_THREE: tuple[Column, ...] = (
    ("CBSD68", 15),
    ("CBSD68", 25),
    ("CBSD68", 50),
    ("SOTS", None),
    ("SOTS-indoor", None),
    ("Rain100L", None),
)
_FIVE: tuple[Column, ...] = (*_THREE, ("GoPro", None), ("GoPro-like", None), ("LOL", None))
_UNSEEN: tuple[Column, ...] = (
    ("Urban100", 10),
    ("Urban100", 30),
    ("Urban100", 60),
    ("CBSD68", 10),
    ("CBSD68", 30),
    ("CBSD68", 60),
    ("Rain100H", None),
    ("SIDD", None),
    ("AAPM", 25),
    # Of Table 3 too: without these two its mean could not be had.
    ("Rain100L", 25),
    ("SOTS", 25),
)
_COMPOSITE: tuple[Column, ...] = (("Rain100L", 25), ("SOTS", 25), ("SOTS-indoor", 25))

_AVERAGES: Mapping[str, tuple[Column, ...]] = {
    "Table 1": TABLE_1,
    "Table 2": TABLE_2,
    # So do most papers after it count five tasks.
    "Table 2, σ 25 alone": tuple(entry for entry in TABLE_2 if entry[1] in (25, None)),
    "Table 3": TABLE_3,
}

SUITES: Mapping[str, Suite] = {
    suite.name: suite
    for suite in (
        Suite("three-task", "PIP's Table 1", _THREE, ("Table 1",)),
        Suite("five-task", "PIP's Table 2", _FIVE, ("Table 2", "Table 2, σ 25 alone")),
        Suite("unseen", "PIP's Tables 3 and S6: noise levels and sets not trained on", _UNSEEN, ("Table 3",)),
        Suite("composite", "PIP's Tables 3 and S5: noise on top of rain and of haze", _COMPOSITE),
        Suite("all", "all of these", tuple(dict.fromkeys((*_FIVE, *_UNSEEN, *_COMPOSITE))), tuple(_AVERAGES)),
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
    return _benchmarks(SUITES[name].entries, protocol)


def suite_averages(name: str, protocol: Protocol) -> tuple[Average, ...]:
    """The means that the tables of a suite end with; none under a protocol that is not theirs."""
    if protocol.name != DEFAULT_PROTOCOL:
        return ()
    return tuple(
        Average(table, tuple(benchmark.title for benchmark in _benchmarks(_AVERAGES[table], protocol)))
        for table in SUITES[name].averages
    )


def _benchmarks(entries: Sequence[Column], protocol: Protocol) -> list[Benchmark]:
    return [
        Benchmark(find_dataset(dataset), protocol, sigma)
        for dataset, sigma in entries
        if sigma is None or protocol.noisy is not None
    ]
