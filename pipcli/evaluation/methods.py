"""What can be measured: models, the input itself, and classical denoisers, all called one way."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pipcli.degradations import Degradation, omega_vector
from pipcli.evaluation.protocols import Float32
from pipcli.images import Image

if TYPE_CHECKING:
    from pipcli.inference.engine import Restorer

INPUT = "input"


@dataclass(frozen=True)
class Ailment:
    """What a method is told of an input.

    Attributes:
        weights: the true ω; empty where nothing ails it that there is a task for.
        sigma: the noise's deviation, of 255, where it is known.
        beyond: what else ails it, that no task undoes.
    """

    weights: Mapping[Degradation, float]
    sigma: float | None
    beyond: tuple[str, ...] = ()


@dataclass(frozen=True)
class Method:
    """One way to restore an image.

    Attributes:
        name: as it stands in tables.
        restore: (degraded H×W×C in units of 1, perhaps beyond [0, 1]; what ails it) → restored, like it.
        degradations: those it can undo; a set with any other is not run.
        note: what tables must say of it.
        kind: the same in a word or two, such as on how many tasks a model was trained.
        on_cuda: whether its memory is that of a CUDA device.
    """

    name: str
    restore: Callable[[Float32, Ailment], Float32]
    degradations: Sequence[Degradation]
    note: str = ""
    kind: str = ""
    on_cuda: bool = False

    def refusal(self, ailment: Ailment) -> str | None:
        """Why this method is not run on such inputs; None where it is."""
        missing = [str(each) for each in ailment.weights if each not in self.degradations]
        if not ailment.weights and self.name != INPUT:
            missing.extend(ailment.beyond)
        return f"does not undo {' and '.join(missing)}" if missing else None


def input_method() -> Method:
    """The input as it is: the figure that every other has to beat."""
    return Method(INPUT, lambda degraded, ailment: degraded, tuple(Degradation))


class _AsItIs(Image):
    """Floats that reach the model as they are: a photograph's are clipped to [0, 1] first, noise is not."""

    def crop_float(self, y0: int, y1: int, x0: int, x1: int) -> Float32:
        crop: Float32 = self.pixels[y0:y1, x0:x1].astype(np.float32)
        return crop if self.channels == 3 else np.repeat(crop, 3, axis=2)

    def store(self, rgb: NDArray[np.floating[Any]], top: int = 0, left: int = 0) -> Float32:
        values = rgb if self.channels == 3 else rgb.mean(axis=2, keepdims=True)
        stored: Float32 = np.clip(values, 0, 1).astype(np.float32)
        return stored


def model_method(name: str, restorer: Restorer, sha256: str) -> Method:
    """A model under the true ω, in the restorer's precision; its output is never rounded.

    Args:
        name: as it shall stand in tables.
        restorer: the model, ready to run.
        sha256: of its weights file, in hexadecimal.
    """

    def restore(degraded: Float32, ailment: Ailment) -> Float32:
        omega = omega_vector(ailment.weights, restorer.degradations)
        restored: Float32 = restorer.restore(_AsItIs(degraded), omega).pixels
        return restored

    count = len(restorer.degradations)
    kind = f"{count} task{'' if count == 1 else 's'}"
    note = f"{kind}, weights {sha256[:12]}"
    on_cuda = restorer.device.type == "cuda"
    return Method(name, restore, restorer.degradations, note, kind, on_cuda)
