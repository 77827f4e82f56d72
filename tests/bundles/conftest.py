"""Fixtures of the bundles' tests, and the modules that they import by a bare name."""

from __future__ import annotations

import importlib.util
import logging
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

# Tests are no packages: what they share is loaded by its place, in the order of what imports what.
for name in ("bundle_runs", "combinations", "package_imports"):
    spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name(f"{name}.py"))
    assert spec is not None
    assert spec.loader is not None
    sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(sys.modules[name])


@pytest.fixture(scope="module", autouse=True)
def keep_logging() -> Iterator[None]:
    """Undo what a bundle's logging.conf sets up for the process."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    root.handlers[:], root.level = handlers, level


@pytest.fixture(scope="session")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six subjects of two pairs of slices, of two shapes; the last one is abnormal."""
    return sys.modules["bundle_runs"].write_cohort(tmp_path_factory.mktemp("cohort"))


@pytest.fixture(scope="session")
def unpaired_cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The pictures of ``cohort``, each alone."""
    return sys.modules["bundle_runs"].write_cohort(tmp_path_factory.mktemp("unpaired"), paired=False)
