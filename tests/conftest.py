"""What all tests share: photographs to train on, and a reason to skip ``gpu`` tests without a CUDA device."""

from __future__ import annotations

from pathlib import Path

import pytest
from photographs import write_photographs


@pytest.fixture(scope="session")
def photo_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of small training photographs, made once; tests must not change it."""
    folder = tmp_path_factory.mktemp("data")
    write_photographs(folder)
    return folder


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    marked = [item for item in items if item.get_closest_marker("gpu")]
    if not marked:
        return
    import torch

    if not torch.cuda.is_available():
        for item in marked:
            item.add_marker(pytest.mark.skip(reason="no CUDA device"))
