"""The walls between the rooms: who imports whom, what talks to the terminal, what `--help` costs."""

from __future__ import annotations

import ast
import importlib.metadata
import resource
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import pipcli

PACKAGE = Path(pipcli.__file__).parent

# The map of the house, from the ground up. A room imports from itself and from the rooms named here.
ROOMS: dict[str, set[str]] = {
    "errors": set(),
    "degradations": {"errors"},
    "configuration": set(),
    "images": {"errors"},
    "metrics": set(),
    "models": {"errors", "degradations", "configuration"},
    "inference": {"errors", "degradations", "images", "models"},
    "batch": {"errors", "degradations", "images", "inference"},
    "synthesis": {"errors", "degradations"},
    "training": {"errors", "degradations", "configuration", "images", "metrics", "models", "synthesis"},
    "reports": {"errors", "images"},
    "evaluation": {"errors", "degradations", "images", "metrics", "inference", "synthesis", "reports"},
    "export": {"errors", "degradations", "models"},
}
# The two entry points: cli/ may use every room, __main__ only cli/, and __init__ is the public API.
ROOMS["cli"] = {*ROOMS, "__init__"}
ROOMS["__main__"] = {"cli"}
ROOMS["__init__"] = set(ROOMS) - {"cli", "__main__"}

TERMINAL = {"typer", "click", "rich", "tqdm"}
HEAVY = {"torch", "numpy", "pydicom", "tifffile", "imagecodecs", "safetensors", "PIL"}
HELP_SECONDS = 0.3


def room_of(parts: tuple[str, ...]) -> str:
    """The room of a path inside the package, such as ``("models", "pip.py")``."""
    return parts[0].removesuffix(".py")


def imported_modules(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Line and dotted name of everything imported anywhere, in functions too."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom):
            if node.level:
                yield node.lineno, "." * node.level + (node.module or "")
            else:
                # The last word may be a module: `from pipcli import models`.
                for alias in node.names:
                    yield node.lineno, f"{node.module}.{alias.name}"


def breaches(package: Path) -> list[str]:
    """Every import of ``package`` that the map does not allow, as ``file:line: why``."""
    found = []
    for path in sorted(package.rglob("*.py")):
        parts = path.relative_to(package).parts
        room = room_of(parts)
        where = "/".join(parts)
        if room not in ROOMS:
            found.append(f"{where}: room {room!r} is not on the map")
            continue
        for line, name in imported_modules(ast.parse(path.read_text(encoding="utf-8"))):
            words = name.split(".")
            if name.startswith("."):
                found.append(f"{where}:{line}: relative import {name!r}")
            elif words[0] in TERMINAL and room != "cli":
                found.append(f"{where}:{line}: {words[0]} outside cli/")
            elif words[0] == "pipcli":
                # A name that is no room comes from the package's own __init__; its version is free to all.
                target = words[1] if len(words) > 1 and words[1] in ROOMS else "__init__"
                allowed = target == room or target in ROOMS[room] or name == "pipcli.__version__"
                if not allowed:
                    found.append(f"{where}:{line}: {room} must not import {target} ({name})")
    return found


def test_every_room_imports_only_what_the_map_allows():
    assert breaches(PACKAGE) == []


@pytest.mark.parametrize(
    ("path", "source", "why"),
    [
        ("images/png.py", "from pipcli.models import zoo", "images must not import models"),
        ("images/png.py", "from pipcli import models", "images must not import models"),
        ("images/png.py", "def f():\n    import pipcli.inference", "images must not import inference"),
        ("metrics.py", "from pipcli.errors import UsageError", "metrics must not import errors"),
        ("training/loop.py", "import pipcli.cli.train", "training must not import cli"),
        ("models/pip.py", "from pipcli import load_model", "models must not import __init__"),
        ("__init__.py", "from pipcli.cli import main", "__init__ must not import cli"),
        ("batch/run.py", "from tqdm import tqdm", "tqdm outside cli/"),
        ("inference/engine.py", "import rich.console", "rich outside cli/"),
        ("models/unet.py", "from .pip import Pip", "relative import '.pip'"),
        ("utils/misc.py", "", "room 'utils' is not on the map"),
    ],
)
def test_a_breach_is_found(tmp_path, path, source, why):
    file = tmp_path / path
    file.parent.mkdir(exist_ok=True)
    file.write_text(source, encoding="utf-8")
    (found,) = breaches(tmp_path)
    assert path in found
    assert why in found


def test_allowed_imports_pass(tmp_path):
    (tmp_path / "cli").mkdir()
    (tmp_path / "cli" / "restore.py").write_text("import typer\nfrom pipcli.batch import run\n")
    (tmp_path / "metrics.py").write_text("import numpy\nfrom pipcli import __version__\n")
    assert breaches(tmp_path) == []


def loaded_by(statement: str) -> set[str]:
    """Top-level modules in memory after ``statement``, in a fresh interpreter."""
    code = f"{statement}\nimport sys\nprint(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return {name.split(".")[0] for name in done.stdout.split()}


@pytest.mark.parametrize("statement", ["import pipcli", "import pipcli.cli"])
def test_import_leaves_heavy_libraries_alone(statement):
    assert loaded_by(statement) & HEAVY == set()


def test_a_heavy_library_would_be_seen():
    assert "numpy" in loaded_by("import pipcli, numpy")


def test_help_answers_quickly():
    # Processor time: on a quiet machine it is what a user waits, on a busy one the clock would say nothing.
    def seconds() -> float:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([sys.executable, "-m", "pipcli", "--help"], capture_output=True, check=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return (after.ru_utime - before.ru_utime) + (after.ru_stime - before.ru_stime)

    # The quickest of some runs: the first one compiles.
    assert min(seconds() for _ in range(5)) < HELP_SECONDS


def test_version_is_that_of_the_package():
    assert pipcli.__version__ == importlib.metadata.version("pipcli")
