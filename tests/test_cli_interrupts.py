"""Ctrl-C in a pipeline, whose other programs it ends too."""

from __future__ import annotations

import os
import signal
import sys

import pytest

from pipcli.cli.interrupts import deferred_interrupts


def test_a_message_that_nobody_reads_is_not_raised_in_the_work(monkeypatch):
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as stderr, deferred_interrupts("stopping") as stopping:
        monkeypatch.setattr(sys, "__stderr__", stderr)
        signal.raise_signal(signal.SIGINT)
        assert stopping()


def print_to_nobody(*signals: int) -> None:
    with deferred_interrupts("stopping"):
        for number in signals:
            signal.raise_signal(number)
        raise BrokenPipeError


def test_a_broken_pipe_after_a_signal_is_the_signal():
    with pytest.raises(KeyboardInterrupt):
        print_to_nobody(signal.SIGINT)
    with pytest.raises(BrokenPipeError):
        print_to_nobody()
