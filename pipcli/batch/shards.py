"""Dealing a plan's files out to the machines of a job array, without a word between them."""

from __future__ import annotations

import hashlib
import os
import re
from dataclasses import dataclass, replace

from pipcli.batch.plan import Plan
from pipcli.errors import UsageError


@dataclass(frozen=True)
class Shard:
    """One of so many shares of the files.

    Args:
        index: from 1 to count.
        count: of shares.
    """

    index: int
    count: int

    def __post_init__(self) -> None:
        if not 1 <= self.index <= self.count:
            raise ValueError(f"shard {self.index} of {self.count}: it must be from 1 to the number of shards")

    @property
    def name(self) -> str:
        """Tells its ledger from those of the others."""
        return f"{self.index}of{self.count}"

    def holds(self, relative: str) -> bool:
        """Whether a file belongs to this share, by the hash of its path below the input."""
        digest = hashlib.sha256(os.fsencode(relative)).digest()
        return int.from_bytes(digest[:8], "big") % self.count == self.index - 1

    def of(self, plan: Plan) -> Plan:
        """This share of a plan; what is left alone is counted by the first one."""
        kept = replace(plan, jobs=tuple(job for job in plan.jobs if self.holds(job.relative)))
        return kept if self.index == 1 else replace(kept, hidden=0, others=0, loops=0, unlisted={}, unread={})


def parse_shard(text: str) -> Shard:
    """The shard that a text such as ``2/8`` names.

    Raises:
        UsageError: it names none.
    """
    match = re.fullmatch(r"([0-9]{1,9})/([0-9]{1,9})", text)
    try:
        if match:
            return Shard(int(match[1]), int(match[2]))
    except ValueError:
        pass
    raise UsageError(f"--shard is {text!r}: it must be I/N with I from 1 to N")
