"""``monai-ctmri version``."""

from __future__ import annotations

import platform
from importlib import metadata

import pytest
from typer.testing import CliRunner

import monai_ctmri
from monai_ctmri.cli import app


@pytest.fixture(scope="module")
def lines() -> list[str]:
    done = CliRunner().invoke(app, ["version"])
    assert done.exit_code == 0
    return done.stdout.splitlines()


def test_first_line_is_this_package(lines):
    assert lines[0] == f"monai-ctmri {monai_ctmri.__version__}"
    assert metadata.version("monai-ctmri") == monai_ctmri.__version__


def test_python_is_named(lines):
    assert f"python {platform.python_version()}" in lines


@pytest.mark.parametrize("name", ["torch", "monai", "pytorch-ignite", "pyod", "scikit-learn", "numpy"])
def test_libraries_have_the_version_they_say_themselves(lines, name):
    import importlib

    module = {"pytorch-ignite": "ignite", "scikit-learn": "sklearn"}.get(name, name)
    own = str(importlib.import_module(module).__version__)
    shown = dict(line.split(" ", 1) for line in lines)[name]
    assert own.split("+")[0] == shown.split("+")[0]


def test_a_line_is_a_name_and_a_version(lines):
    assert all(len(line.split(" ")) == 2 for line in lines)
    assert len({line.split(" ")[0] for line in lines}) == len(lines)
