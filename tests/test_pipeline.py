"""Overlapping stages: order, bounds, what happens at the end and on errors."""

from __future__ import annotations

import gc
import threading
import weakref
from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest

from pipcli.batch.pipeline import Limits, overlapped

WAIT = 20.0
USUAL = Limits(readers=2, writers=2, ahead=3, behind=3, weight=100)


class Piece:
    """What travels through the stages."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.stages = ["load"]


def run(
    count: int,
    load: Callable[[int], Piece] = Piece,
    compute: Callable[[Piece], None] = lambda piece: piece.stages.append("compute"),
    finish: Callable[[Piece], None] = lambda piece: piece.stages.append("finish"),
    weigh: Callable[[int], int] = lambda number: 1,
    limits: Limits = USUAL,
    stopping: Callable[[], bool] = lambda: False,
):
    def compute_each(pieces: Sequence[Piece]) -> None:
        assert 0 < len(pieces) <= limits.together
        for piece in pieces:
            compute(piece)

    return overlapped(range(count), load, compute_each, finish, weigh, limits, stopping)


def test_every_item_passes_all_stages_in_order():
    pieces = list(run(50))
    assert [piece.number for piece in pieces] == list(range(50))
    assert all(piece.stages == ["load", "compute", "finish"] for piece in pieces)
    assert list(run(0)) == []


def test_the_order_does_not_depend_on_what_takes_how_long():
    late = threading.Event()

    def load(number: int) -> Piece:
        if number == 0:
            assert late.wait(WAIT)  # until its successor is read
        else:
            late.set()
        return Piece(number)

    assert [piece.number for piece in run(4, load)] == [0, 1, 2, 3]


def test_reading_computing_and_writing_overlap():
    # Each stage of one item waits for the next stage of the item before it: only together do they get on.
    together = threading.Barrier(3, timeout=WAIT)

    def meet(at: int) -> Callable[[Piece], None]:
        def stage(piece: Piece) -> None:
            if piece.number == at:
                together.wait()

        return stage

    def load(number: int) -> Piece:
        piece = Piece(number)
        meet(2)(piece)
        return piece

    assert len(list(run(3, load, meet(1), meet(0)))) == 3


def test_only_computing_happens_in_the_callers_thread():
    threads: dict[str, set[int]] = {"load": set(), "compute": set(), "finish": set()}

    def note(stage: str) -> Callable[[Piece], None]:
        return lambda piece: threads[stage].add(threading.get_ident())

    def load(number: int) -> Piece:
        threads["load"].add(threading.get_ident())
        return Piece(number)

    list(run(10, load, note("compute"), note("finish")))
    assert threads["compute"] == {threading.get_ident()}
    assert not threads["compute"] & (threads["load"] | threads["finish"])


def test_what_is_under_way_is_bounded_however_many_items_there_are():
    alive: weakref.WeakSet[Piece] = weakref.WeakSet()
    most = 0

    def load(number: int) -> Piece:
        piece = Piece(number)
        alive.add(piece)
        return piece

    def compute(piece: Piece) -> None:
        nonlocal most
        most = max(most, len(alive))

    for _ in run(500, load, compute):
        pass
    assert 1 < most <= 3 + 1 + 3 + 1
    gc.collect()
    assert len(alive) <= 1


def test_items_are_computed_together_as_many_as_may_be():
    groups: list[list[int]] = []

    def compute(pieces: Sequence[Piece]) -> None:
        groups.append([piece.number for piece in pieces])

    def overlap(limits: Limits) -> list[int]:
        groups.clear()
        stages = (Piece, compute, lambda piece: None, lambda number: 10)
        return [piece.number for piece in overlapped(range(10), *stages, limits, lambda: False)]

    limits = Limits(readers=2, writers=2, ahead=6, behind=6, weight=1000, together=4)
    assert overlap(limits) == list(range(10))
    assert groups == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]
    # No more than the weight allows, and never none.
    for weight, most in ((35, 3), (5, 1)):
        assert overlap(replace(limits, weight=weight)) == list(range(10))
        assert [number for group in groups for number in group] == list(range(10))
        assert max(map(len, groups)) == most


def test_heavy_items_wait_and_the_heaviest_goes_alone():
    under_way, most = set(), 0
    lock = threading.Lock()
    weights = [40, 40, 40, 1000, 1, 1, 1]

    def load(number: int) -> Piece:
        nonlocal most
        with lock:
            under_way.add(number)
            held = sum(weights[each] for each in under_way)
            assert held <= 100 or len(under_way) == 1
            most = max(most, held)
        return Piece(number)

    def finish(piece: Piece) -> None:
        with lock:
            under_way.discard(piece.number)

    assert len(list(run(7, load, finish=finish, weigh=weights.__getitem__))) == 7
    assert most == 1000


def test_stopping_finishes_what_is_computed_and_drops_what_is_only_read():
    computed = []
    pieces = list(run(9, compute=lambda piece: computed.append(piece), stopping=lambda: len(computed) == 4))
    assert [piece.number for piece in pieces] == [0, 1, 2, 3]
    assert all(piece.stages[-1] == "finish" for piece in pieces)


@pytest.mark.parametrize("stage", ["load", "compute", "finish", "weigh"])
@pytest.mark.parametrize("kind", [ValueError, KeyboardInterrupt])
def test_what_a_stage_raises_is_raised_and_no_thread_stays(stage, kind):
    def fail(item: object) -> None:
        if getattr(item, "number", item) == 3:
            raise kind

    def load(number: int) -> Piece:
        if stage == "load":
            fail(number)
        return Piece(number)

    def weigh(number: int) -> int:
        if stage == "weigh":
            fail(number)
        return 1

    nothing: Callable[[Piece], None] = lambda piece: None  # noqa: E731
    before = threading.active_count()
    with pytest.raises(kind):
        list(
            run(
                9,
                load,
                fail if stage == "compute" else nothing,
                fail if stage == "finish" else nothing,
                weigh,
            )
        )
    assert threading.active_count() == before


def test_limits_are_checked():
    with pytest.raises(ValueError, match="every limit must be at least 1"):
        Limits(1, 0, 1, 1, 1)
