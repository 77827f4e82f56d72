"""The folder a command writes to is looked at before any work."""

from __future__ import annotations

import os

import pytest

from monai_ctmri.cli.destination import check_destination
from monai_ctmri.errors import InputError


def test_a_new_and_an_existing_folder_pass_and_nothing_is_made(tmp_path):
    for out in (tmp_path, tmp_path / "new", tmp_path / "new" / "deep"):
        assert check_destination(out) == out
    assert not list(tmp_path.iterdir())


def test_a_relative_folder_passes(tmp_path, monkeypatch):
    from pathlib import Path

    monkeypatch.chdir(tmp_path)
    assert check_destination(Path("runs/demo")) == Path("runs/demo")


@pytest.mark.parametrize("below", ["", "run", "run/deep"])
def test_a_file_in_the_way_is_named(tmp_path, below):
    file = tmp_path / "notes.txt"
    file.write_text("x")
    with pytest.raises(InputError, match="a file, not a folder") as caught:
        check_destination(file / below)
    assert str(caught.value).startswith(f"{file}: ")


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_may_not_be_written_is_named(tmp_path):
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(InputError, match="no permission"):
            check_destination(tmp_path / "run")
    finally:
        tmp_path.chmod(0o700)


def test_missing_permission_is_one_line(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(InputError, match="no permission") as caught:
        check_destination(tmp_path / "run")
    assert str(caught.value).startswith(f"{tmp_path}: ")
