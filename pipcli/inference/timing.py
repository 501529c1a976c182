"""Where the seconds of a restoration go: a model that watches the clock."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from torch import Tensor

from pipcli.models.backbone import RestorationModel, StandIn


class TimedModel(StandIn):
    """A model, and the seconds spent inside it; on the CPU, where a call ends when its work is done.

    Attributes:
        survey: seconds spent on what the tiles of an image have in common.
        restoring: seconds spent on images and tiles themselves.

    Args:
        model: called as any other.
    """

    def __init__(self, model: RestorationModel) -> None:
        super().__init__(model)
        self.survey = 0.0
        self.restoring = 0.0

    def forward(self, x: Tensor, omega: Tensor) -> Tensor:
        with self._restoring():
            y: Tensor = self.model(x, omega)
        return y

    def features(self, x: Tensor) -> list[Tensor]:
        with self._surveying():
            return self.model.features(x)

    def queries_keys(
        self, features: Sequence[Tensor], placed: Sequence[Tensor]
    ) -> list[tuple[Tensor, Tensor]]:
        with self._surveying():
            return self.model.queries_keys(features, placed)

    def prompted_by(self, x: Tensor, placed: Sequence[Tensor], attention: Sequence[Tensor]) -> Tensor:
        with self._restoring():
            return self.model.prompted_by(x, placed, attention)

    @contextmanager
    def _surveying(self) -> Iterator[None]:
        start = time.perf_counter()
        yield
        self.survey += time.perf_counter() - start

    @contextmanager
    def _restoring(self) -> Iterator[None]:
        start = time.perf_counter()
        yield
        self.restoring += time.perf_counter() - start
