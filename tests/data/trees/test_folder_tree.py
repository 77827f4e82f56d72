"""Folder trees, counted by hand."""

from __future__ import annotations

import os
import sys

import pytest

from monai_ctmri.data.trees.folder_tree import folder_tree, tree_lines
from monai_ctmri.errors import InputError


@pytest.fixture
def folder(tmp_path):
    """root: a.png (3 B), notes (1 B); ct: 2 png of 10 B; ct/old: 1 nii.gz of 5 B; mri: empty."""
    root = tmp_path / "set"
    (root / "ct" / "old").mkdir(parents=True)
    (root / "mri").mkdir()
    for name, size in {"a.PNG": 3, "notes": 1, "ct/1.png": 10, "ct/2.png": 10, "ct/old/v.nii.gz": 5}.items():
        (root / name).write_bytes(b"x" * size)
    return root


def test_counts_hold_a_folder_with_all_below_it(folder):
    tree = folder_tree(folder)
    assert (tree["name"], tree["path"], tree["files"], tree["bytes"]) == ("set", ".", 5, 29)
    assert tree["types"] == {".png": 3, ".nii.gz": 1, "no suffix": 1}
    ct, mri = tree["folders"]
    assert (ct["name"], ct["path"], ct["files"], ct["bytes"]) == ("ct", "ct", 3, 25)
    assert ct["types"] == {".png": 2, ".nii.gz": 1}
    assert (mri["files"], mri["bytes"], mri["types"], mri["folders"]) == (0, 0, {}, [])
    assert ct["folders"][0]["path"] == "ct/old"
    assert tree["more_folders"] == 0


def test_most_frequent_type_comes_first(folder):
    assert list(folder_tree(folder)["types"]) == [".png", ".nii.gz", "no suffix"]


def test_depth_cuts_the_tree_and_counts_what_it_hides(folder):
    tree = folder_tree(folder, depth=1)
    ct = tree["folders"][0]
    assert ct["folders"] == []
    assert ct["more_folders"] == 1
    assert ct["files"] == 3
    flat = folder_tree(folder, depth=0)
    assert (flat["folders"], flat["more_folders"], flat["files"]) == ([], 3, 5)


def test_a_bound_on_folders_keeps_those_near_the_root(tmp_path):
    for number in range(12):
        (tmp_path / f"s{number:02d}" / "in").mkdir(parents=True)
        (tmp_path / f"s{number:02d}" / "in" / "x.png").write_bytes(b"1")
    tree = folder_tree(tmp_path, most=10)
    assert len(tree_lines(tree)) == 10
    assert [inner["name"] for inner in tree["folders"]] == [f"s{number:02d}" for number in range(9)]
    assert tree["more_folders"] == 3 * 2
    assert tree["files"] == 12
    assert all(inner["more_folders"] == 1 for inner in tree["folders"])


def test_lines_go_from_top_to_bottom_with_their_depth(folder):
    lines = [(depth, entry["path"]) for depth, entry in tree_lines(folder_tree(folder))]
    assert lines == [(0, "."), (1, "ct"), (2, "ct/old"), (1, "mri")]


@pytest.mark.skipif(sys.platform == "win32", reason="links need rights there")
def test_a_link_to_a_folder_is_not_followed(folder):
    os.symlink(folder, folder / "ct" / "circle")
    assert folder_tree(folder)["files"] == 5


def test_a_relative_root_has_its_own_name(folder, monkeypatch):
    monkeypatch.chdir(folder)
    assert folder_tree(".")["name"] == "set"


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(InputError, match=r"nowhere: no such folder"):
        folder_tree(tmp_path / "nowhere")
