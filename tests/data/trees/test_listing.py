"""Every file below the root is an image or has a reason."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from monai_ctmri.data.trees.listing import list_images, shared_folders
from monai_ctmri.errors import InputError


def touch(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")


def test_images_and_others(tmp_path: Path) -> None:
    touch(tmp_path / "b" / "2.png", tmp_path / "a" / "1.nii.gz", tmp_path / "notes.txt", tmp_path / "a" / "bare")
    images, ignored = list_images(tmp_path)
    assert [(i.folders, i.stem, i.kind) for i in images] == [(("a",), "1", "volume"), (("b",), "2", "picture")]
    assert sorted((p.name, r) for p, r in ignored) == [("bare", "no image"), ("notes.txt", "no image")]


def test_every_file_is_accounted_for_once(tmp_path: Path) -> None:
    touch(
        *(tmp_path / f"d{i % 3}" / f"{i}.{'png' if i % 2 else 'txt'}" for i in range(30)),
        tmp_path / ".hidden" / "x.png",
    )
    images, ignored = list_images(tmp_path)
    assert len(images) == 15
    assert len(ignored) == 16
    assert (tmp_path / ".hidden", "hidden") in ignored


def test_links(tmp_path: Path) -> None:
    root, outside = tmp_path / "root", tmp_path / "outside"
    touch(root / "a" / "1.png", root / ".store" / "key.png", outside / "2.png", root / "__MACOSX" / "3.png")
    (root / "leaves.png").symlink_to(outside / "2.png")
    (root / "leaves").symlink_to(outside)
    (root / "again.png").symlink_to(root / "a" / "1.png")
    (root / "a" / "loop").symlink_to(root)
    (root / "circle").symlink_to(root / "circle")
    (root / "gone.png").symlink_to(root / "nowhere.png")
    (root / "stored.png").symlink_to(root / ".store" / "key.png")
    images, ignored = list_images(root)
    assert sorted(i.path.name for i in images) == ["1.png", "stored.png"]
    reasons = {p.name: r for p, r in ignored}
    assert reasons["leaves.png"] == reasons["leaves"] == "a link that leads out of the folder"
    assert reasons["again.png"] == reasons["loop"] == "a link to what is in the folder anyway"
    assert "nowhere" in reasons["circle"]
    assert "nowhere" in reasons["gone.png"]
    assert reasons["__MACOSX"] == "hidden"


def test_a_root_that_is_a_link_is_read(tmp_path: Path) -> None:
    touch(tmp_path / "real" / "1.png")
    (tmp_path / "link").symlink_to(tmp_path / "real")
    images, _ = list_images(tmp_path / "link")
    assert [i.path for i in images] == [tmp_path / "link" / "1.png"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_folder_without_permission_is_named(tmp_path: Path) -> None:
    touch(tmp_path / "a.png", tmp_path / "shut" / "b.png")
    (tmp_path / "shut").chmod(0)
    try:
        _, ignored = list_images(tmp_path)
    finally:
        (tmp_path / "shut").chmod(0o700)
    assert [p.name for p, _ in ignored] == ["shut"]


def test_no_folder(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"nothing: no such folder; give the folder"):
        list_images(tmp_path / "nothing")


def test_progress_ends_complete(tmp_path: Path) -> None:
    touch(tmp_path / "a" / "b" / "1.png", tmp_path / "c" / "2.png")
    seen: list[tuple[int, int]] = []
    list_images(tmp_path, lambda done, known: seen.append((done, known)))
    assert [done for done, _ in seen] == [1, 2, 3, 4]
    assert seen[-1] == (4, 4)


def test_shared_folders() -> None:
    assert shared_folders([("d", "a"), ("d", "b")]) == 1
    assert shared_folders([("d", "a"), ("d", "a")]) == 2
    assert shared_folders([("d",), ()]) == 0
    assert shared_folders([]) == 0
