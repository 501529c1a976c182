"""Shards: every file in exactly one, whatever the machine."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pipcli.batch.plan import Job, Plan
from pipcli.batch.shards import Shard, parse_shard
from pipcli.errors import UsageError

NAMES = [f"folder/{number}.jpg" for number in range(1000)] + [os.fsdecode(b"\xff.png"), "é.png"]
PLAN = Plan(
    tuple(Job(Path("in", name), Path("out", name), Path("out"), name) for name in NAMES),
    hidden=1,
    others=2,
    loops=3,
    unlisted={Path("in/secret"): "cannot be listed"},
    unread={".heic": 4},
)


@pytest.mark.parametrize("count", [1, 2, 7])
def test_every_file_is_in_exactly_one_share(count):
    shares = [Shard(index, count).of(PLAN) for index in range(1, count + 1)]
    dealt = [job for share in shares for job in share.jobs]
    assert sorted(dealt, key=PLAN.jobs.index) == list(PLAN.jobs)
    for share in shares:
        assert len(share.jobs) == pytest.approx(len(NAMES) / count, rel=0.3)
    assert sum(share.left_alone for share in shares) == 10
    assert sum(len(share.unlisted) for share in shares) == 1


def test_a_share_does_not_depend_on_the_other_files_or_the_machine():
    # Computed once and written down: another machine or version must deal the same way.
    assert [name for name in NAMES[:20] if Shard(2, 7).holds(name)] == EXPECTED


EXPECTED = ["folder/2.jpg", "folder/12.jpg", "folder/18.jpg"]


@pytest.mark.parametrize(
    "text", ["0/2", "3/2", "2", "1/0", "-1/2", "1/2/3", "a/b", "1 / 2", "", "\u0661/\u0662"]
)
def test_what_is_no_share_is_refused(text):
    with pytest.raises(UsageError, match="it must be I/N with I from 1 to N"):
        parse_shard(text)


def test_a_share_has_a_name():
    assert parse_shard("2/8") == Shard(2, 8)
    assert Shard(2, 8).name == "2of8"
