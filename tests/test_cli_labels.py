"""Names of models in tables: short, and told apart."""

from __future__ import annotations

import os
from pathlib import Path

from pipcli.cli.labels import labels_of


def test_a_file_is_called_by_its_name_alone_where_that_is_enough():
    assert labels_of(["pip-unet", "runs/a/best.safetensors", "nlm"]) == ["pip-unet", "best", "nlm"]


def test_as_many_folders_as_tell_files_apart(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = ["runs/a/best.safetensors", "last.safetensors", "runs/b/best.safetensors"]
    assert labels_of(names) == ["a/best", "last", "b/best"]
    names = ["x/a/best.safetensors", "y/a/best.safetensors", "y/b/best.safetensors"]
    assert labels_of(names) == ["x/a/best", "y/a/best", "b/best"]
    assert labels_of(["best.safetensors", "a/best.safetensors"]) == [f"{tmp_path.name}/best", "a/best"]


def test_a_file_that_is_called_like_a_model():
    assert labels_of(["pip-unet", "runs/pip-unet.safetensors"]) == ["pip-unet", "runs/pip-unet"]


def test_what_is_the_same_stays_the_same():
    path = "runs/best.safetensors"
    assert labels_of([path, os.path.join(os.curdir, path)]) == ["best", "best"]
    assert labels_of([path, str(Path(path).absolute())]) == ["best", "best"]
    assert labels_of(["nlm", "nlm"]) == ["nlm", "nlm"]
    assert labels_of([]) == []
