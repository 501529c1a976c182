"""What all tests share: photographs to train on, Ctrl-C, and a reason to skip ``gpu`` tests without a GPU."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from photographs import write_photographs


@pytest.fixture(scope="session")
def photo_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of small training photographs, made once; tests must not change it."""
    folder = tmp_path_factory.mktemp("data")
    write_photographs(folder)
    return folder


@pytest.fixture(scope="session", autouse=True)
def interruptible() -> Iterator[None]:
    """Ctrl-C interrupts: a shell that starts the tests in the background has told them to ignore it."""
    before = signal.getsignal(signal.SIGINT)
    if before is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    marked = [item for item in items if item.get_closest_marker("gpu")]
    if not marked:
        return
    import torch

    if not torch.cuda.is_available():
        for item in marked:
            item.add_marker(pytest.mark.skip(reason="no CUDA device"))
