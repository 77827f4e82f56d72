"""The lock file: what it says is true, and what has changed since is found."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from monai_ctmri.data.downloads.archives import Unpacked
from monai_ctmri.data.downloads.lockfile import find_damage, read_lock, sha256_of, strangers_in, tree_digest, write_lock
from monai_ctmri.errors import InputError

FILES = {"b/two.bin": bytes(range(256)) * 9000, "a/one.txt": b"one\n", "empty": b""}


@pytest.fixture
def folder(tmp_path) -> Path:
    for name, content in FILES.items():
        (tmp_path / "data" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "data" / name).write_bytes(content)
    return tmp_path / "data"


def listed(folder: Path) -> list[Unpacked]:
    return [Unpacked(name, len(content), hashlib.sha256(content).hexdigest()) for name, content in FILES.items()]


@pytest.fixture
def lock(folder, tmp_path) -> Path:
    path = tmp_path / "data.lock.json"
    write_lock(path, listed(folder), dataset="owner/data", archive={"size": 5})
    return path


def test_sha256_is_that_of_hashlib(folder):
    for name, content in FILES.items():
        assert sha256_of(folder / name) == hashlib.sha256(content).hexdigest()


@pytest.mark.skipif(shutil.which("sha256sum") is None, reason="sha256sum is not installed")
def test_digest_of_the_folder_is_that_of_the_lines_of_sha256sum(folder):
    done = subprocess.run(["sha256sum", *sorted(FILES)], cwd=folder, capture_output=True, check=True)
    assert tree_digest(listed(folder)) == hashlib.sha256(done.stdout).hexdigest()


def test_digest_depends_on_names_and_contents_and_not_on_order(folder):
    files = listed(folder)
    assert tree_digest(files) == tree_digest(files[::-1])
    assert tree_digest(files) != tree_digest([files[0]._replace(name="c"), *files[1:]])
    assert tree_digest(files) != tree_digest([files[0]._replace(sha256="0" * 64), *files[1:]])


def test_what_is_written(lock):
    content = json.loads(lock.read_text())
    assert content["dataset"] == "owner/data"
    assert content["archive"] == {"size": 5}
    assert (content["n_files"], content["n_bytes"]) == (3, sum(map(len, FILES.values())))
    assert list(content["files"]) == sorted(FILES)
    assert content["files"]["empty"] == {"size": 0, "sha256": hashlib.sha256(b"").hexdigest()}
    assert datetime.fromisoformat(content["time"]).utcoffset() == timedelta(0)
    assert read_lock(lock) == content


def test_an_intact_folder_has_no_damage(folder, lock):
    (folder / "added.txt").write_text("mine")
    seen: list[tuple[int, int]] = []
    assert find_damage(folder, read_lock(lock), hashes=True, progress=lambda *step: seen.append(step)) == []
    assert seen == [(1, 3), (2, 3), (3, 3)]


def test_each_kind_of_damage_is_named(folder, lock):
    content = read_lock(lock)
    (folder / "a" / "one.txt").unlink()
    (folder / "b" / "two.bin").write_bytes(FILES["b/two.bin"][:-1])
    assert find_damage(folder, content) == ["a/one.txt is missing", "b/two.bin has another size"]
    (folder / "a" / "one.txt").write_bytes(b"two\n")
    (folder / "b" / "two.bin").write_bytes(FILES["b/two.bin"])
    assert find_damage(folder, content) == []
    assert find_damage(folder, content, hashes=True) == ["a/one.txt has another content"]


def test_a_link_or_a_folder_in_place_of_a_file_is_damage(folder, lock, tmp_path):
    content = read_lock(lock)
    (tmp_path / "same.txt").write_bytes(FILES["a/one.txt"])
    (folder / "a" / "one.txt").unlink()
    (folder / "a" / "one.txt").symlink_to(tmp_path / "same.txt")
    (folder / "empty").unlink()
    (folder / "empty").mkdir()
    assert find_damage(folder, content) == ["a/one.txt is missing", "empty is missing"]


def test_a_folder_that_is_gone_is_all_damage(folder, lock):
    content = read_lock(lock)
    shutil.rmtree(folder)
    assert len(find_damage(folder, content)) == 3


def test_strangers_are_files_and_links_that_were_added(folder, lock, tmp_path):
    content = read_lock(lock)
    assert strangers_in(folder, content) == []
    (folder / "a" / "added.txt").write_text("mine")
    (folder / "linked").symlink_to(tmp_path, target_is_directory=True)
    assert strangers_in(folder, content) == ["a/added.txt", "linked"]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        '{"format": 2, "files": {}}',
        '{"format": 1}',
        '{"format": 1, "files": [1]}',
        '{"format": 1, "files": {"a": {"size": "1", "sha256": ""}}}',
        '{"format": 1, "files": {"a": {"size": 1}}}',
    ],
)
def test_what_is_no_lock_file_is_one_line(tmp_path, text):
    path = tmp_path / "x.lock.json"
    path.write_text(text)
    with pytest.raises(InputError, match="no lock file") as stop:
        read_lock(path)
    assert str(stop.value).startswith(str(path))
    assert "\n" not in str(stop.value)
