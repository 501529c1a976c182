"""What ``--task``, ``--omega`` and their kin ask for: checked at once, made ready once a model is there."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pipcli.degradations import Degradation, parse_omega, parse_passes
from pipcli.errors import UsageError
from pipcli.models.zoo import DEFAULT_CLASSIFIER

if TYPE_CHECKING:
    import torch

    from pipcli.inference.decision import Auto, Choice

AUTO = "auto"


@dataclass(frozen=True)
class Asked:
    """What the user wants undone.

    Attributes:
        label: in the user's words.
        passes: weights of each pass; none where the classifier is to tell.
        classifier: name or weights file.
        threshold: given by the user, or None for the usual one.
        abstain: leave alone what the classifier takes for clean.
    """

    label: str
    passes: tuple[dict[Degradation, float], ...] = ()
    classifier: str = DEFAULT_CLASSIFIER
    threshold: float | None = None
    abstain: bool = True

    def made_ready(self, device: torch.device) -> Choice:
        """What decides for each file.

        Raises:
            ModelError: the classifier is missing or damaged.
        """
        from pipcli.inference.decision import Told

        if self.passes:
            return Told(self.passes)
        return deciding_classifier(self.classifier, device, self.threshold, self.abstain)


def deciding_classifier(
    name: str, device: torch.device, threshold: float | None = None, abstain: bool = True
) -> Auto:
    """A classifier by name or weights file, ready to decide; the threshold is the usual one if None.

    Raises:
        ModelError: the classifier is missing or damaged.
    """
    from pipcli.inference.decision import Auto
    from pipcli.inference.diagnosis import DEFAULT_THRESHOLD, Diagnoser
    from pipcli.models import zoo
    from pipcli.models.checkpoint import sha256_of

    diagnoser = Diagnoser(zoo.load_classifier(name), device)
    sha256 = sha256_of(zoo.locate(name, zoo.CLASSIFIERS).path)
    return Auto(diagnoser, sha256, DEFAULT_THRESHOLD if threshold is None else threshold, abstain)


def asked(
    task: str | None, omega: str | None, classifier: str | None, threshold: float | None, abstain: bool
) -> Asked:
    """What the options of a command ask for; None is what was not given.

    Raises:
        UsageError: a value is wrong, or options contradict each other.
    """
    if task is not None and omega is not None:
        raise UsageError("--task and --omega contradict each other: give one of them")
    check_threshold(threshold)
    if omega is None and task in (None, AUTO):
        return Asked(AUTO, (), classifier or DEFAULT_CLASSIFIER, threshold, abstain)
    for option, given in (
        ("--threshold", threshold is not None),
        ("--no-abstain", not abstain),
        ("--classifier", classifier is not None),
    ):
        if given:
            raise UsageError(f"{option} is for --task auto, where the classifier decides")
    if omega is not None:
        return Asked(omega, (parse_omega(omega),))
    label = AUTO if task is None else task
    return Asked(label, parse_passes(label, (AUTO,)))


def check_threshold(threshold: float | None) -> None:
    """Refuse one that is no probability.

    Raises:
        UsageError: it is none.
    """
    if threshold is not None and not 0 <= threshold <= 1:
        raise UsageError(f"--threshold is {threshold}: it must be from 0 to 1")
