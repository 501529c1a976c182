"""How a run keeps account of its files, so that the next one knows them, and whom they belong to."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from pipcli.batch.ledger import Ledger
from pipcli.batch.limits import file_size
from pipcli.batch.plan import Plan
from pipcli.errors import UsageError
from pipcli.images.naming import shown


class Existing(Enum):
    """What is done about outputs that are there already."""

    RESUME = "what the ledger shows as finished is kept, all else of this program is made again"
    OVERWRITE = "everything is made again, and replaces whatever is there"
    SKIP = "whatever is there is kept"


@dataclass(frozen=True)
class Keeping:
    """How a run keeps account of its files.

    Attributes:
        ledger: where it is noted what was made of each.
        model_sha256: of the weights file, to be noted.
        existing: what is done about outputs that are there.
        preserve_times: outputs take their inputs' times of last access and change.
    """

    ledger: Ledger
    model_sha256: str
    existing: Existing = Existing.RESUME
    preserve_times: bool = False


def refuse_strangers(plan: Plan, ledger: Ledger) -> None:
    """Refuse to replace files that no run made; empty ones hold nothing that could be lost.

    A run made what a ledger tells of as an output. Where it tells of failures alone, the file came from
    elsewhere.

    Raises:
        UsageError: there are such files where outputs would go.
        OutputError: a ledger cannot be read.
    """
    strangers = [
        job.target
        for job in plan.jobs
        if not job.in_place
        and file_size(job.target)
        and all(entry.output_sha256 is None for entry in ledger.entries(job.home, job.output))
    ]
    if strangers:
        count = "is" if len(strangers) == 1 else f"and {len(strangers) - 1} more are"
        raise UsageError(
            f"{shown(strangers[0])}: {count} there already, not from an earlier run: "
            "--overwrite replaces such files, --skip-existing keeps them"
        )
