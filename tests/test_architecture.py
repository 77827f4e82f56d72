"""The house rules of docs/architecture.md, read off the code."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parent.parent / "monai_ctmri"
ROOMS = ("data", "transforms", "networks", "engines", "scoring", "detection", "evaluation", "report", "cli")
MODULES = sorted(PACKAGE.rglob("*.py"))


def room_of(path: Path) -> str | None:
    parts = path.relative_to(PACKAGE).parts
    return parts[0] if len(parts) > 1 else None


def imported_rooms(path: Path) -> set[str]:
    rooms = set()
    for node in ast.walk(ast.parse(path.read_text())):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            names = [node.module] + [f"{node.module}.{alias.name}" for alias in node.names]
        for name in names:
            parts = name.split(".")
            if parts[0] == "monai_ctmri" and len(parts) > 1 and parts[1] in ROOMS:
                rooms.add(parts[1])
    return rooms


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_room_imports_only_from_rooms_above_it(path):
    room = room_of(path)
    allowed = ROOMS[: ROOMS.index(room) + 1] if room else ()
    assert imported_rooms(path) <= set(allowed)


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_modules_are_small_and_no_grab_bags(path):
    assert len(path.read_text().splitlines()) <= 400
    assert path.stem not in {"utils", "util", "helpers", "helper", "common", "misc"}


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_nothing_unsafe_is_read_or_written(path):
    text = path.read_text()
    assert not re.search(r"^\s*(import|from) (pickle|joblib|dill)\b", text, re.M)
    assert not re.search(r"weights_only\s*=\s*False|allow_pickle\s*=\s*True|\bextractall\(", text)


def test_the_page_names_every_room_and_module():
    page = (PACKAGE.parent / "docs" / "architecture.md").read_text()
    for path in MODULES:
        room = room_of(path)
        if room in ROOMS and room not in ("engines", "cli", "transforms") and path.stem != "__init__":
            assert path.name in page, f"docs/architecture.md does not name {room}/{path.name}"


def loaded_after(statement: str) -> set[str]:
    code = f"{statement}\nimport sys\nprint('\\n'.join(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


@pytest.mark.parametrize("statement", ["import monai_ctmri", "import monai_ctmri.cli"])
def test_importing_the_package_loads_nothing_heavy(statement):
    heavy = {"torch", "monai", "pyod", "sklearn", "matplotlib", "nilearn", "scipy", "numpy"}
    assert not loaded_after(statement) & heavy


def test_no_public_class_has_a_name_of_monai():
    code = """
import importlib, inspect, pkgutil
import monai, monai_ctmri
theirs = set()
for room in ("data", "engines", "handlers", "inferers", "losses", "metrics", "networks.nets", "transforms"):
    module = importlib.import_module(f"monai.{room}")
    theirs |= {name for name, item in vars(module).items()
               if inspect.isclass(item) and item.__module__.startswith("monai.")}
ours = set()
for info in pkgutil.walk_packages(monai_ctmri.__path__, 'monai_ctmri.'):
    if info.name.startswith('monai_ctmri.bundles'):
        continue
    module = importlib.import_module(info.name)
    ours |= {name for name, item in vars(module).items()
             if inspect.isclass(item) and item.__module__.startswith('monai_ctmri') and not name.startswith('_')}
print(sorted(ours & theirs))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip().splitlines()[-1] == "[]"
