"""How far a run is: its clock, its learning rate, the seeds of its steps, and when it reports and is kept."""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from pipcli.errors import UsageError
from pipcli.training.recipe import Optimiser

_REPORT_SECONDS = 5.0


@dataclass(frozen=True)
class Progress:
    """Where a run stands, for whoever shows it.

    Attributes:
        done: share of the run, 0 to 1.
        loss: mean since the last checkpoint.
        examples_per_second: over all processes, since the last report without a validation.
        validation: figures by their names, where this report follows a checkpoint.
    """

    step: int
    done: float
    minutes: float
    loss: float
    learning_rate: float
    examples_per_second: float
    validation: dict[str, float] | None = None


def check_length(minutes: float, steps: int | None, init: Sequence[Path]) -> None:
    """Refuse a run without a length or with two, and one of no steps that has no weights to keep.

    Raises:
        UsageError: it is one of these.
    """
    if bool(minutes) == (steps is not None):
        raise UsageError("give the length of the run either in minutes or in steps")
    if steps == 0 and not init:
        raise UsageError("a run of 0 steps keeps the weights that it starts from: give some to start from")


class Pace:
    """Counts a run's steps and minutes, and tells when a report or a checkpoint is due.

    Args:
        minutes, steps: length of the run; minutes are 0 where there are steps, and else these are None.
        checkpoint_minutes: between checkpoints.
        step, minutes_before: where a resumed run goes on.

    Attributes:
        step: steps made.
        rate: learning rate of the last one.
    """

    def __init__(
        self,
        minutes: float,
        steps: int | None,
        checkpoint_minutes: float,
        step: int = 0,
        minutes_before: float = 0.0,
    ) -> None:
        self.step = step
        self.rate = 0.0
        self._length = minutes, steps
        self._checkpoint_minutes = checkpoint_minutes
        self._minutes_before = minutes_before
        self._began = self._reported = self._kept = time.monotonic()
        self._examples, self._speed = 0, 0.0
        self._loss: Tensor | float = 0.0
        self._losses = 0

    @property
    def minutes(self) -> float:
        """Of the run so far, with those before it was resumed."""
        return self._minutes_before + (time.monotonic() - self._began) / 60

    @property
    def done(self) -> float:
        """Share of the run, 0 to 1."""
        minutes, steps = self._length
        if steps is None:
            return min(1.0, self.minutes / minutes)
        return min(1.0, self.step / steps) if steps else 1.0

    def count(self, examples: int, loss: Tensor) -> None:
        """Take note of a step: of how many examples, in all processes, and with which loss.

        The loss stays on its device until somebody asks for it: a GPU need not wait.
        """
        self.step += 1
        self._examples += examples
        self._loss = self._loss + loss.detach()
        self._losses += 1

    def report_due(self) -> bool:
        """Whether some seconds have passed since the last report; if so they begin anew."""
        now = time.monotonic()
        if now - self._reported < _REPORT_SECONDS:
            return False
        self._speed = self._examples / (now - self._reported)
        self._reported, self._examples = now, 0
        return True

    def checkpoint_due(self) -> bool:
        """Whether it is time for a checkpoint; not where the run ends soon, and is kept then anyway."""
        if time.monotonic() - self._kept < 60 * self._checkpoint_minutes:
            return False
        minutes, done = self.minutes, self.done
        return minutes * (1 - done) >= done * self._checkpoint_minutes / 4

    def kept(self) -> None:
        """Begin anew after a checkpoint, whose validation is not training."""
        self._kept = self._reported = time.monotonic()
        self._examples, self._loss, self._losses = 0, 0.0, 0

    def progress(self, validation: dict[str, float] | None = None) -> Progress:
        """Where the run stands."""
        return Progress(
            step=self.step,
            done=self.done,
            minutes=self.minutes,
            loss=float(self._loss) / max(1, self._losses),
            learning_rate=self.rate,
            examples_per_second=self._speed,
            validation=validation,
        )


def learning_rate_at(optimiser: Optimiser, step: int, done: float) -> float:
    """Linear warm-up over the first steps, then constant, then a cosine that ends at zero with the run."""
    warm = min(1.0, (step + 1) / max(1, optimiser.warmup))
    falling = max(0.0, done - optimiser.decay_from) / max(1e-9, 1 - optimiser.decay_from)
    return optimiser.learning_rate * warm * 0.5 * (1 + math.cos(math.pi * min(1.0, falling)))


def seed_of(seed: int, step: int, rank: int) -> int:
    """The seed of one process's draws in one step: 32 bits, which every generator reads in full."""
    digest = hashlib.sha256(f"{seed} {step} {rank}".encode()).digest()
    return int.from_bytes(digest[:4], "big")
