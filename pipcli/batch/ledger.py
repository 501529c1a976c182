"""The ledger: what was made of which file, beside the output, so that the same command goes on.

``.pipcli/ledger.jsonl`` holds a line of JSON a file. A line is on the disk before the output that it tells of
is put in place; so whatever stands at an output's name and has the hash of a line was made whole. Nothing
depends on the order of lines: a file is finished when any of them fits. So the ledgers of shards, which write
``ledger-2of8.jsonl`` and so on, merge by being read together. Lines that fit alike count once.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import threading
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pipcli.errors import OutputError
from pipcli.images.naming import shown

FOLDER = ".pipcli"
_BLOCK = 1 << 20


@dataclass(frozen=True)
class Recipe:
    """What makes an output of an input.

    Attributes:
        model_sha256: of the weights file.
        parameters: everything else that the output depends on, as plain JSON values.
    """

    model_sha256: str
    parameters: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Entry:
    """One line: what was made of one file, or why nothing was.

    Attributes:
        input: the file's path below the input that the user named.
        input_sha256: None where it could not be read.
        model_sha256, parameters: as in `Recipe`.
        output: path of the output below the ledger's folder.
        output_sha256: of the output as it was written; None where there is none.
        seconds: that it took.
        warnings: what the user was told of it.
        left_alone: why a DICOM file was not restored.
        series: of a DICOM file, told from others and nothing else.
        error: why there is no output.
        decision: what the classifier found in the file and what was therefore undone; None where the user
            said what to undo.
    """

    input: str
    input_sha256: str | None
    model_sha256: str
    parameters: Mapping[str, Any]
    output: str
    output_sha256: str | None
    seconds: float
    warnings: tuple[str, ...] = ()
    left_alone: str | None = None
    series: str | None = None
    error: str | None = None
    decision: Mapping[str, Any] | None = None


class Ledger:
    """The ledgers of one run; each is read when it is first asked for, and only added to.

    Args:
        name: tells the file that this run adds to from those of its other shards; empty without shards.
    """

    def __init__(self, name: str = "") -> None:
        self._file = f"ledger-{name}.jsonl" if name else "ledger.jsonl"
        self._read: dict[Path, Mapping[str, tuple[Entry, ...]]] = {}
        self._reading = threading.Lock()
        # While one line is being written its end may be seen as that of half a line.
        self._writing = threading.Lock()

    def entries(self, home: Path, output: str) -> tuple[Entry, ...]:
        """The lines about an output, by its path below the ledger's folder ``home``; see `read_ledgers`.

        Raises:
            OutputError: a ledger is there and cannot be read.
        """
        with self._reading:
            if home not in self._read:
                self._read[home] = read_ledgers(home)
        return self._read[home].get(output, ())

    def add(self, home: Path, entry: Entry) -> None:
        """Add a line to the ledger in ``home``; it is on the disk when this returns.

        Raises:
            OutputError: it cannot be written.
        """
        path = home / FOLDER / self._file
        line = json.dumps(asdict(entry), separators=(",", ":")) + "\n"
        try:
            path.parent.mkdir(exist_ok=True)
            with self._writing, open(path, "a+b", buffering=0) as file:
                # A process killed while it wrote may have left half a line; what comes now is not part of it.
                if file.tell():
                    file.seek(-1, os.SEEK_END)
                    line = line if file.read(1) == b"\n" else "\n" + line
                data = line.encode("ascii")
                if file.write(data) < len(data):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                os.fsync(file.fileno())
        except OSError as error:
            raise OutputError(f"{shown(path)}: cannot be written: {error.strerror or error}") from error


def read_ledgers(home: Path) -> dict[str, tuple[Entry, ...]]:
    """Output → its lines in all ledgers of a folder; lines cut short or of another version are passed over.

    Of lines that fit alike the last one is kept, so that a command run every night takes no more memory each
    time.

    Raises:
        OutputError: a ledger is there and cannot be read.
    """
    lines: dict[str, list[Entry]] = defaultdict(list)
    alike: dict[str, Mapping[str, Any]] = {}  # tens of thousands of lines share a few sets of parameters
    try:
        for path in sorted((home / FOLDER).glob("ledger*.jsonl")):
            with path.open("rb") as file:
                for line in file:
                    entry = _parse(line, alike)
                    if entry is not None:
                        known = lines[entry.output]
                        known[:] = [each for each in known if not _fit_alike(each, entry)]
                        known.append(entry)
    except OSError as error:
        raise OutputError(f"{shown(home / FOLDER)}: cannot be read: {error.strerror or error}") from error
    return {output: tuple(entries) for output, entries in lines.items()}


def _fit_alike(one: Entry, other: Entry) -> bool:
    """Whether two lines about an output say the same of how it was made, and of what."""
    return (
        one.input_sha256 == other.input_sha256
        and one.output_sha256 == other.output_sha256
        and one.model_sha256 == other.model_sha256
        and one.parameters == other.parameters
        and one.left_alone == other.left_alone
        and (one.error is None) == (other.error is None)
    )


def _parse(line: bytes, alike: dict[str, Mapping[str, Any]]) -> Entry | None:
    with contextlib.suppress(ValueError, TypeError, KeyError, AttributeError):
        fields = json.loads(line)
        parameters = fields["parameters"]
        fields["parameters"] = alike.setdefault(json.dumps(parameters), parameters)
        fields["warnings"] = tuple(fields["warnings"])
        entry = Entry(**fields)
        if isinstance(entry.output, str):
            return entry
    return None


def as_recorded(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Parameters as they come back from a ledger, to be compared with those there."""
    recorded: dict[str, Any] = json.loads(json.dumps(parameters))
    return recorded


def hash_bytes(data: bytes) -> str:
    """SHA-256 in hexadecimal digits."""
    return hashlib.sha256(data).hexdigest()


def hash_file(path: Path) -> str | None:
    """SHA-256 of a file's content; None where there is no regular file that can be read."""
    try:
        if not path.is_file():
            return None
        digest = hashlib.sha256()
        with path.open("rb") as file:
            while block := file.read(_BLOCK):
                digest.update(block)
    except OSError:
        return None
    return digest.hexdigest()
