"""Three stages that overlap: reading in threads, computing in the caller's, writing in threads.

What is under way is bounded in number and in weight, so that memory stays flat over any number of files.
Items are computed, and their results given, in the order of the input, whatever takes how long: nothing
about a result depends on the timing.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

Item = TypeVar("Item")
Work = TypeVar("Work")


@dataclass(frozen=True)
class Limits:
    """How much may be under way at once.

    Attributes:
        readers, writers: threads.
        ahead: items read, or being read, before they are computed.
        behind: items computed that are not written yet.
        weight: of all items under way; one that is heavier than that goes alone.
        together: items that are handed to be computed at once.
    """

    readers: int
    writers: int
    ahead: int
    behind: int
    weight: int
    together: int = 1

    def __post_init__(self) -> None:
        if min(self.readers, self.writers, self.ahead, self.behind, self.weight, self.together) < 1:
            raise ValueError(f"{self}: every limit must be at least 1")


def overlapped(
    items: Iterable[Item],
    load: Callable[[Item], Work],
    compute: Callable[[Sequence[Work]], None],
    finish: Callable[[Work], None],
    weigh: Callable[[Item], int],
    limits: Limits,
    stopping: Callable[[], bool],
) -> Iterator[Work]:
    """Each item's work, in order, once it is finished.

    Args:
        items: taken one by one, only as far as the limits allow.
        load: called in a reading thread.
        compute: called in this thread with ``limits.together`` works in order, or fewer where the weight
            allows no more or there are no more.
        finish: called in a writing thread.
        weigh: called in this thread before an item is loaded.
        stopping: asked each time before something is computed; True ends it there. What is computed by then
            is finished and given; what was only read is dropped.

    What a stage raises is raised here. However this ends, no thread goes on.
    """
    remaining = iter(items)
    reading: deque[tuple[int, Future[Work]]] = deque()
    writing: deque[tuple[int, Future[Work]]] = deque()
    waiting: list[tuple[int, Item]] = []  # taken from the items, but too heavy to begin yet; one at most
    held = 0

    def finished(work: Work) -> Work:
        finish(work)
        return work

    readers = ThreadPoolExecutor(limits.readers, "read")
    writers = ThreadPoolExecutor(limits.writers, "write")
    try:
        while True:
            while len(reading) < limits.ahead:
                if not waiting:
                    waiting.extend((weigh(item), item) for item in _next(remaining))
                if not waiting or (held and held + waiting[0][0] > limits.weight):
                    break
                weight, item = waiting.pop()
                held += weight
                reading.append((weight, readers.submit(load, item)))
            if reading:
                if stopping():
                    break
                taken = [reading.popleft() for _ in range(min(limits.together, len(reading)))]
                works = [(weight, loaded.result()) for weight, loaded in taken]
                compute([work for _, work in works])
                writing.extend((weight, writers.submit(finished, work)) for weight, work in works)
                # Else the loop holds the last works while it waits for the next.
                del taken, works
            elif not writing:
                break
            while writing and (len(writing) > limits.behind or not reading or writing[0][1].done()):
                weight, written = writing.popleft()
                yield written.result()
                held -= weight
                del written
        for _, written in writing:
            yield written.result()
    finally:
        readers.shutdown(cancel_futures=True)
        writers.shutdown(cancel_futures=True)


def _next(items: Iterator[Item]) -> list[Item]:
    """The next item, or nothing."""
    for item in items:
        return [item]
    return []
