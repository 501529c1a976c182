"""What can be measured: models, the input itself, and classical denoisers, all called one way."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pipcli.degradations import Degradation, omega_vector
from pipcli.evaluation.protocols import Float32
from pipcli.images import Image
from pipcli.inference.passes import restore_in_passes

if TYPE_CHECKING:
    from pipcli.inference.decision import Auto
    from pipcli.inference.engine import Restorer

INPUT = "input"


@dataclass(frozen=True)
class Ailment:
    """What a method is told of an input.

    Attributes:
        weights: the true ω; empty where nothing ails it that there is a task for.
        sigma: the noise's deviation, of 255, where it is known.
        beyond: what else ails it, that no task undoes.
        found: what a classifier found instead, the weights of each pass; None where the true ω is told.
    """

    weights: Mapping[Degradation, float]
    sigma: float | None
    beyond: tuple[str, ...] = ()
    found: tuple[Mapping[Degradation, float], ...] | None = None


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
        find: what a classifier finds in an input, as weights of passes; None where the true ω is told.
        beside: name of the method that differs in nothing but being told the true ω.
    """

    name: str
    restore: Callable[[Float32, Ailment], Float32]
    degradations: Sequence[Degradation]
    note: str = ""
    kind: str = ""
    on_cuda: bool = False
    find: Callable[[Float32], tuple[Mapping[Degradation, float], ...]] | None = None
    beside: str = ""

    def run(self, degraded: Float32, ailment: Ailment) -> tuple[Float32, Ailment]:
        """The restored image, and what was told to make it: the ailment, with what was found where it was."""
        told = ailment if self.find is None else replace(ailment, found=self.find(degraded))
        return self.restore(degraded, told), told

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
        passes = (ailment.weights,) if ailment.found is None else ailment.found
        if not passes:
            return degraded
        omegas = [omega_vector(weights, restorer.degradations) for weights in passes]
        restored: Float32 = restore_in_passes(restorer, _AsItIs(degraded), omegas).pixels
        return restored

    count = len(restorer.degradations)
    kind = f"{count} task{'' if count == 1 else 's'}"
    note = f"{kind}, weights {sha256[:12]}"
    on_cuda = restorer.device.type == "cuda"
    return Method(name, restore, restorer.degradations, note, kind, on_cuda)


def auto_method(told: Method, restorer: Restorer, auto: Auto) -> Method:
    """A model under what a classifier finds in each input, as ``pipcli restore --task auto`` does it.

    Args:
        told: the same model under the true ω.
        restorer: the model.
        auto: the classifier, ready to decide.
    """

    def find(degraded: Float32) -> tuple[Mapping[Degradation, float], ...]:
        # A file's values end at black and white; float noise does not.
        return auto.decide(_AsItIs(np.clip(degraded, 0, 1)), restorer.degradations).passes

    return replace(
        told,
        name=f"{told.name}-auto",
        note=f"{told.note}; ω by classifier {auto.classifier_sha256[:12]}",
        kind=f"{told.kind}, ω by classifier",
        find=find,
        beside=told.name,
    )
