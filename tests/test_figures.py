"""What drawings share: matplotlib is asked for by name where it is missing."""

import importlib.util

import pytest

from pipcli.errors import UsageError
from pipcli.reports.figures import require_matplotlib


def test_a_missing_matplotlib_is_said_with_its_remedy(monkeypatch):
    monkeypatch.setattr("pipcli.reports.figures.find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"pipcli\[plots\]"):
        require_matplotlib()


def test_an_installed_one_is_found(monkeypatch):
    monkeypatch.setattr("pipcli.reports.figures.find_spec", lambda name: importlib.util.find_spec("io"))
    require_matplotlib()
