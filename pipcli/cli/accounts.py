"""What ``pipcli restore`` says: of its plan, of each file, and of the whole run."""

from __future__ import annotations

import json
import re
import sys
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from pipcli.cli.choosing import AUTO
from pipcli.cli.messages import complain, say

if TYPE_CHECKING:
    from pathlib import Path

    from pipcli.batch.estimate import Estimate
    from pipcli.batch.outcome import Outcome, Summary
    from pipcli.batch.plan import Aside, Job, Plan
    from pipcli.inference.engine import Restorer

MOST_KINDS = 20
"""Kinds of warnings that a summary tells of."""
_TO_RESTORE, _THERE, _LEFT_ALONE = "to restore", "there already", "left alone"
"""What a dry run says of a file."""
_NUMBER = re.compile(r"-?\d+(\.\d+)?(e[-+]\d+)?")


@contextmanager
def progress_bar(
    count: int | None, quiet: bool, printing: bool = False, unit: str = "file"
) -> Iterator[Callable[[str], None]]:
    """A bar on stderr where that is a terminal; gives a function to call after each file, with its name.

    Args:
        count: of all files; None where nobody knows.
        printing: lines go to stdout meanwhile; where that is a terminal too, there is no bar, since they
            would be written into it.
    """
    from tqdm import tqdm

    hidden = quiet or not sys.stderr.isatty() or (printing and sys.stdout.isatty())
    with tqdm(total=count, unit=unit, file=sys.stderr, disable=hidden, leave=False) as bar:

        def advance(name: str) -> None:
            bar.set_postfix_str(name, refresh=False)
            bar.update()

        yield advance


def outcome_line(outcome: Outcome, task: str, told: Any) -> str:
    """A file's account as a line of JSON.

    Args:
        task: what the user asked for.
        told: ω as the user said it (see :func:`pipcli.inference.decision.recorded_passes`); None for auto.
    """
    decision = outcome.decision
    has_output = outcome.error is None and (outcome.left_alone is None or outcome.copied)
    line = {
        "input": str(outcome.job.name),
        "output": str(outcome.job.target) if has_output else None,
        "task": task,
        "omega": told if decision is None else decision["omega"],
        "decision": decision,
        "untouched": outcome.untouched,
        "seconds": round(outcome.seconds, 3),
        "warnings": list(outcome.warnings),
        "left_alone": outcome.left_alone,
        "kept": outcome.kept,
        "error": outcome.error,
    }
    return json.dumps(line)


def failure_line(path: Path, error: str, task: str, told: Any) -> str:
    """The line of what was named or found and could not be looked into: a zip file, or a folder."""
    line = {
        "input": str(path),
        "output": None,
        "task": task,
        "omega": told,
        "decision": None,
        "untouched": False,
        "seconds": 0.0,
        "warnings": [],
        "left_alone": None,
        "kept": False,
        "error": error,
    }
    return json.dumps(line)


def tell_summary(
    summary: Summary, plan: Plan, setting: str, warnings: Mapping[str, int], quiet: bool
) -> None:
    """What is to be known of a run, then what failed, then the sums: what matters most is seen last."""
    if not quiet:
        _tell_notes(summary, plan, warnings)
    for failure in summary.failures:
        complain(failure)
    for line in summary.incomplete:
        complain(line)
    if not quiet:
        say(f"{account(summary, plan)} in {duration(summary.seconds)}, {setting}")


def _tell_notes(summary: Summary, plan: Plan, warnings: Mapping[str, int]) -> None:
    for line in summary.divided:
        say(f"warning: {line}")
    for line in warning_lines(warnings):
        say(f"warning: {line}")
    for reason, count in summary.left_alone.items():
        say(f"left alone: {files(count)}, each {reason}" if count > 1 else f"left alone: 1 file {reason}")
    if plan.left_alone:
        say(f"left alone: {passed_over(plan)}")
    if summary.verdicts:
        say(f"found: {findings(summary.verdicts)}")
    if summary.kept_otherwise:
        say(kept_otherwise(summary.kept_otherwise))
    if summary.redone:
        say(f"{summary.redone} results were not finite or absurd at first, computed again in more bits")


def kept_otherwise(count: int) -> str:
    """That so many files stay as other settings have made them in place."""
    which = (
        "1 restored before with other settings is"
        if count == 1
        else f"{count} restored before with other settings are"
    )
    return f"{which} kept; --overwrite restores {'it' if count == 1 else 'them'} again"


def warning_lines(warnings: Mapping[str, int]) -> list[str]:
    """Warnings and of how many files each is, the most frequent kinds first.

    Those that differ in their numbers alone are of one kind, and one of them stands for all.
    """
    kinds: defaultdict[str, list[tuple[str, int]]] = defaultdict(list)
    for warning, count in warnings.items():
        kinds[_NUMBER.sub("0", warning)].append((warning, count))
    ordered = sorted(kinds.values(), key=lambda kind: -sum(count for _, count in kind))
    lines = []
    for (warning, count), *alike in ordered[:MOST_KINDS]:
        others = sum(number for _, number in alike)
        told = f", {others} of them with other numbers" if others else ""
        lines.append(f"{warning} ({files(count + others)}{told})")
    untold = sum(map(len, ordered[MOST_KINDS:]))
    if untold:
        lines.append(f"and {untold} other {'note' if untold == 1 else 'notes'}, in --json and the ledger")
    return lines


def account(summary: Summary, plan: Plan) -> str:
    """The sums of a run in one line."""
    counts = [
        f"{summary.restored} restored",
        f"{len(summary.failures)} failed",
        f"{plan.left_alone + sum(summary.left_alone.values())} left alone",
    ]
    if summary.kept:
        counts.insert(1, f"{summary.kept} there already")
    if summary.untouched:
        counts.insert(1, f"{summary.untouched} untouched")
    if summary.copied:
        counts[-1] += f" ({summary.copied} of them copied)"
    if summary.unreached:
        counts.append(f"{summary.unreached} not begun")
    return ", ".join(counts)


def findings(verdicts: Mapping[str, int]) -> str:
    """What was found in how many files, the most frequent first."""
    ordered = sorted(verdicts.items(), key=lambda item: (-item[1], item[0]))
    first, *others = [(in_words(verdict), count) for verdict, count in ordered]
    return ", ".join(
        [f"{first[0]} in {files(first[1])}", *(f"{words} in {count}" for words, count in others)]
    )


def in_words(verdict: str) -> str:
    """A verdict as people say it."""
    known = {"clean": "nothing", "unsure": "nothing sure", "mixed": "different things in its pages"}
    return known.get(verdict, verdict.replace(",", " and ").replace("+", " and "))


def decision_line(decision: Mapping[str, Any]) -> str:
    """What was found in a file and how sure that is, or in how many of its pages, as a phrase."""
    if "pages" in decision:
        verdicts = Counter(page["verdict"] for page in decision["pages"])
        return "found " + ", ".join(f"{in_words(verdict)} in {pages(n)}" for verdict, n in verdicts.items())
    chances = sorted(decision["probabilities"].items(), key=lambda item: -item[1])
    told = ", ".join(f"{kind} {chance:.2f}" for kind, chance in chances)
    sigma = f"; noise σ {decision['sigma']:.0f}" if "noise" in decision["verdict"] else ""
    return f"found {in_words(decision['verdict'])} ({told}{sigma})"


def tell_plan(
    plan: Plan,
    finished: Mapping[Job, Outcome],
    estimate: Estimate,
    task: str,
    restorer: Restorer,
    as_json: bool,
) -> None:
    """A dry run's results: every file on stdout, and what all of it will cost.

    Args:
        finished: what an earlier run did, as :func:`pipcli.batch.run.finished_jobs` tells.
    """
    from pipcli.images.naming import shown

    states = {job: _state_of(finished.get(job)) for job in plan.jobs}
    for job, state in states.items():
        has_output = state != _LEFT_ALONE
        if as_json:
            output = str(job.target) if has_output else None
            print(json.dumps({"input": str(job.name), "output": output, "state": state, "error": None}))
        else:
            output = f" -> {shown(job.target)}" if has_output else ""
            print(f"{shown(job.name)}{output} ({state})")
    if as_json:
        for path, failure in plan.failed.items():
            print(json.dumps({"input": str(path), "output": None, "state": "failed", "error": failure}))
    tell = say if as_json else print
    counts = Counter(states.values())
    todo = counts[_TO_RESTORE]
    left_alone = plan.left_alone + counts[_LEFT_ALONE]
    tell(f"files: {todo} to restore, {counts[_THERE]} there already, {left_alone} left alone")
    if plan.left_alone:
        tell(f"left alone: {passed_over(plan)}")
    otherwise = sum(outcome.kept_otherwise for outcome in finished.values())
    if otherwise:
        tell(kept_otherwise(otherwise))
    for failure in plan.failures:
        tell(failure)
    tell(f"task: {task}, {shape(restorer)}, {restorer.place} in {restorer.precision}")
    if not todo:
        return
    unknown = f"; {files(estimate.unknown)} of unknown size not counted" if estimate.unknown else ""
    tell(f"pixels: {estimate.pixels / 1e6:.1f} million{unknown}")
    passes = ", with one pass over each file" if task == AUTO else ""
    tell(f"time: about {duration(estimate.seconds)} of computing{passes}")
    if estimate.memory is not None:
        tell(f"memory: about {amount(estimate.memory)}")
    if estimate.free is not None:
        short = ": TOO LITTLE" if estimate.disk > estimate.free else ""
        tell(f"disk: about {amount(estimate.disk)}, {amount(estimate.free)} free{short}")


def _state_of(earlier: Outcome | None) -> str:
    """What a dry run says of a file, by what an earlier run did with it."""
    if earlier is None:
        return _TO_RESTORE
    return _THERE if earlier.left_alone is None or earlier.copied else _LEFT_ALONE


def shape(restorer: Restorer) -> str:
    """How much is computed at once."""
    batch = f", batches of {restorer.batch}" if restorer.batch > 1 else ""
    return f"tile {restorer.tiling.tile}{batch}"


def passed_over(plan: Aside) -> str:
    """What a plan or listing leaves alone, by kind."""
    formats = ", ".join(f"{count} {suffix}" for suffix, count in sorted(plan.unread.items()))
    kinds = (
        (sum(plan.unread.values()), f"of formats that are not read ({formats})"),
        (plan.hidden, "hidden"),
        (plan.others, "no image" if plan.others == 1 else "no images"),
        (plan.loops, "link in a circle" if plan.loops == 1 else "links in a circle"),
    )
    return ", ".join(f"{count} {kind}" for count, kind in kinds if count)


def files(count: int) -> str:
    """So many files, in words."""
    return "1 file" if count == 1 else f"{count} files"


def pages(count: int) -> str:
    """So many pages, in words."""
    return "1 page" if count == 1 else f"{count} pages"


def amount(size: int) -> str:
    """So many bytes in a fitting unit."""
    value, unit = float(size), "bytes"
    for larger in ("KiB", "MiB", "GiB", "TiB"):
        if value < 1024:
            break
        value, unit = value / 1024, larger
    return f"{value:.0f} {unit}" if unit == "bytes" or value >= 100 else f"{value:.1f} {unit}"


def duration(seconds: float) -> str:
    """A stretch of time in the two largest units that it fills: 41.8 s, 12 min 5 s, 9 h 41 min."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"
