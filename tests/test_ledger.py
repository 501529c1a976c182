"""The ledger: lines that survive kills, odd names and several writers, read back as they were written."""

from __future__ import annotations

import json
import os
import threading
import time
import tracemalloc
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from pipcli.batch import ledger as ledger_module
from pipcli.batch.ledger import Entry, Ledger, as_recorded, hash_bytes, hash_file, read_ledgers
from pipcli.errors import OutputError


def entry(output: str, seconds: float = 1.0) -> Entry:
    return Entry(
        input=output,
        input_sha256="in",
        model_sha256="model",
        parameters={"omega": {"noise": 1.0}, "tile": 512},
        output=output,
        output_sha256="out",
        seconds=seconds,
        warnings=("palette image read as RGB",),
    )


def test_lines_come_back_as_they_were_added(tmp_path):
    names = ["a.png", "b/ü.png", "new\nline.png", 'quo"te.png', os.fsdecode(b"\xff.png"), "x" * 255]
    ledger = Ledger()
    for name in names:
        ledger.add(tmp_path, entry(name))
    assert {name: Ledger().entries(tmp_path, name) for name in names} == {
        name: (entry(name),) for name in names
    }
    assert Ledger().entries(tmp_path, "none.png") == ()
    assert Ledger().entries(tmp_path / "none", "a.png") == ()
    lines = (tmp_path / ".pipcli" / "ledger.jsonl").read_text("ascii").splitlines()
    assert [json.loads(line)["input"] for line in lines] == names


def test_lines_that_fit_alike_count_once_and_all_others_are_kept(tmp_path):
    first, second = entry("a.png", 1.0), entry("a.png", 2.0)
    others = [
        replace(first, parameters={"tile": 256}),
        replace(first, model_sha256="other"),
        replace(first, input_sha256="other"),
        replace(first, output_sha256="other"),
        replace(first, output_sha256=None, left_alone="is a localizer"),
        replace(first, output_sha256=None, error="failed"),
    ]
    for each in (first, *others, second):
        Ledger().add(tmp_path, each)
    assert Ledger().entries(tmp_path, "a.png") == (*others, second)


def test_a_command_that_is_repeated_takes_no_more_memory(tmp_path):
    def held() -> int:
        tracemalloc.start()
        entries = read_ledgers(tmp_path)
        size, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert len(entries) == 200
        return size

    ledger = tmp_path / ".pipcli" / "ledger.jsonl"
    ledger.parent.mkdir()
    lines = [json.dumps(asdict(entry(f"{number}.png"))) for number in range(200)]
    ledger.write_text("\n".join(lines) + "\n")
    once = held()
    ledger.write_text(3 * ledger.read_text())
    assert held() < 1.1 * once


def test_ledgers_of_shards_merge_in_any_order(tmp_path):
    Ledger("2of2").add(tmp_path, entry("a.png"))
    Ledger("1of2").add(tmp_path, entry("b.png"))
    Ledger().add(tmp_path, entry("c.png"))
    assert {path.name for path in (tmp_path / ".pipcli").iterdir()} == {
        "ledger.jsonl",
        "ledger-1of2.jsonl",
        "ledger-2of2.jsonl",
    }
    assert set(read_ledgers(tmp_path)) == {"a.png", "b.png", "c.png"}
    assert Ledger("1of2").entries(tmp_path, "a.png") == (entry("a.png"),)


@pytest.mark.parametrize(
    "damage",
    [
        b'{"input":"x',
        b"\0\0\0\0",
        b"[]\n",
        b'{"output":"a.png"}\n',
        b"\xff\xfe\n",
        b"null\n",
        b'{"parameters":1}',
    ],
)
def test_a_damaged_line_costs_itself_only(tmp_path, damage):
    ledger = Ledger()
    ledger.add(tmp_path, entry("a.png"))
    path = tmp_path / ".pipcli" / "ledger.jsonl"
    path.write_bytes(path.read_bytes() + damage)
    ledger.add(tmp_path, entry("b.png"))
    assert set(read_ledgers(tmp_path)) == {"a.png", "b.png"}


def test_every_possible_cut_leaves_a_ledger_that_reads(tmp_path):
    Ledger().add(tmp_path, entry("a.png"))
    path = tmp_path / ".pipcli" / "ledger.jsonl"
    whole = path.read_bytes()
    for length in range(len(whole) - 1):
        path.write_bytes(whole[:length])
        Ledger().add(tmp_path, entry("b.png"))
        assert set(read_ledgers(tmp_path)) == {"b.png"}


def test_lines_of_several_writers_do_not_mix(tmp_path):
    def add(writer: int) -> None:
        for number in range(50):
            ledger.add(tmp_path, entry(f"{writer}-{number}.png"))

    ledger = Ledger()
    threads = [threading.Thread(target=add, args=(writer,)) for writer in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(read_ledgers(tmp_path)) == 200


def test_a_line_is_on_the_disk_before_add_returns(tmp_path, monkeypatch):
    synced = []
    real = os.fsync
    monkeypatch.setattr(os, "fsync", lambda descriptor: (synced.append(descriptor), real(descriptor)))
    Ledger().add(tmp_path, entry("a.png"))
    assert len(synced) == 1


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full on this system")
def test_a_full_disk_is_told(tmp_path):
    (tmp_path / ".pipcli").mkdir()
    (tmp_path / ".pipcli" / "ledger.jsonl").symlink_to("/dev/full")
    with pytest.raises(OutputError, match=r"ledger\.jsonl: cannot be written: No space left on device"):
        Ledger().add(tmp_path, entry("a.png"))


def test_parameters_are_compared_as_json_keeps_them():
    assert as_recorded({"a": (1, 2.0), "b": {"c": None}}) == {"a": [1, 2.0], "b": {"c": None}}


def test_hashes(tmp_path):
    # Of the empty text and of "abc", as FIPS 180-2 prints them.
    empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    (tmp_path / "abc").write_bytes(b"abc")
    (tmp_path / "large").write_bytes(bytes(3_000_000))
    assert (hash_bytes(b""), hash_file(tmp_path / "abc")) == (empty, abc)
    assert hash_file(tmp_path / "large") == hash_bytes(bytes(3_000_000))
    assert hash_file(tmp_path) is None
    assert hash_file(tmp_path / "none") is None


def test_a_line_is_whole_before_another_thread_looks_at_its_end(tmp_path, monkeypatch):
    # Seen while it grows, the last line would look like half a one, and an empty line would follow it.
    writing, most = [], []

    @contextmanager
    def watched(path, *mode, **how):
        with open(path, *mode, **how) as file:
            writing.append(path)
            most.append(len(writing))
            time.sleep(0.01)
            yield file
            writing.remove(path)

    monkeypatch.setattr(ledger_module, "open", watched, raising=False)
    ledger = Ledger()
    threads = [threading.Thread(target=ledger.add, args=(tmp_path, entry(f"{n}.png"))) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert max(most) == 1
    assert len((tmp_path / ".pipcli" / "ledger.jsonl").read_text().splitlines()) == 8
