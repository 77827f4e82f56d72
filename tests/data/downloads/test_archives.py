"""Unpacking: what is sound comes out byte for byte; what is not leaves nothing behind."""

from __future__ import annotations

import hashlib
import io
import random
import re
import shutil
import stat
import struct
import subprocess
import sys
import zipfile
from collections import namedtuple
from pathlib import Path

import pytest

from monai_ctmri.data.downloads.archives import ArchiveError, unpack
from monai_ctmri.errors import InputError

FILES = {
    "a/b/one.bin": random.Random(0).randbytes(3_000_000),
    "a/two.txt": b"two\n" * 100,
    "zero": b"",
    "ü/Ö.png": b"x",
}


@pytest.fixture
def place(tmp_path) -> Path:
    """The folder the archive is unpacked into lies here, with a neighbour that must stay as it is."""
    (tmp_path / "place").mkdir()
    (tmp_path / "place" / "neighbour.txt").write_text("mine")
    return tmp_path / "place"


def make(path: Path, *members: tuple[str | zipfile.ZipInfo, bytes], compression: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in members:
            archive.writestr(name, content)
    return path


def with_mode(name: str, mode: int) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name)
    info.create_system, info.external_attr = 3, mode << 16
    return info


def refused(archive: Path, place: Path, kind: type[InputError] = ArchiveError, **limits) -> str:
    with pytest.raises(InputError) as stop:
        unpack(archive, place / "data", **limits)
    assert type(stop.value) is kind
    assert [file.name for file in place.iterdir()] == ["neighbour.txt"], "something was left"
    assert (place / "neighbour.txt").read_text() == "mine"
    assert {file.name for file in place.parent.iterdir()} <= {"place", archive.name}
    message = str(stop.value)
    assert "\n" not in message
    assert message.startswith(str(archive))
    return message


@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_files_come_out_as_they_went_in(tmp_path, place, compression):
    archive = make(tmp_path / "a.zip", *FILES.items(), ("empty folder/", b""), compression=compression)
    written = unpack(archive, place / "data")
    found = {file.relative_to(place / "data").as_posix(): file for file in (place / "data").rglob("*")}
    assert {name for name, file in found.items() if file.is_file()} == set(FILES)
    assert found["empty folder"].is_dir()
    for name, content in FILES.items():
        assert found[name].read_bytes() == content
    assert [(one.name, one.size, one.sha256) for one in written] == sorted(
        (name, len(content), hashlib.sha256(content).hexdigest()) for name, content in FILES.items()
    )
    assert sorted(file.name for file in place.iterdir()) == ["data", "neighbour.txt"]


def test_an_archive_of_another_program_comes_out(tmp_path, place):
    if shutil.which("zip") is None:
        source = tmp_path / "source"
        (source / "sub").mkdir(parents=True)
        (source / "sub" / "f.txt").write_text("text")
        archive = Path(shutil.make_archive(str(tmp_path / "a"), "zip", source))
        shutil.rmtree(source)
    else:
        (tmp_path / "sub").mkdir()
        (tmp_path / "sub" / "f.txt").write_text("text")
        subprocess.run(["zip", "-qr", "a.zip", "sub"], cwd=tmp_path, check=True)
        shutil.rmtree(tmp_path / "sub")
        archive = tmp_path / "a.zip"
    unpack(archive, place / "data")
    assert (place / "data" / "sub" / "f.txt").read_text() == "text"


def test_progress_counts_files_to_the_end(tmp_path, place):
    seen: list[tuple[int, int]] = []
    unpack(make(tmp_path / "a.zip", *FILES.items()), place / "data", progress=lambda *step: seen.append(step))
    assert seen == [(1, 4), (2, 4), (3, 4), (4, 4)]


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("../evil.txt", "leads out"),
        ("a/../../evil.txt", "leads out"),
        ("a/..", "leads out"),
        ("/etc/evil", "absolute"),
        ("//host/share/evil", "absolute"),
        ("C:/evil.txt", "absolute"),
        ("c:evil.txt", "absolute"),
        ("..\\evil.txt", "backslash"),
        ("a\\b.txt", "backslash"),
        ("a\x00.txt", "control"),
        ("a\x1b[2Jb.txt", "control"),
        ("a\nError: b.txt", "control"),
        ("a//b.txt", "empty part"),
        ("./b.txt", "empty part"),
        ("x" * 256, "too long"),
        ("é" * 128, "too long"),
        ("/".join(["d"] * 40), "too long"),
        ("/".join(["d" * 200] * 10), "too long"),
    ],
)
def test_a_name_that_is_not_plain_is_refused(tmp_path, place, name, reason):
    info = zipfile.ZipInfo("placeholder")
    info.filename = info.orig_filename = name  # The constructor would cut or turn some of them.
    message = refused(make(tmp_path / "a.zip", ("good.txt", b"good"), (info, b"evil")), place)
    assert reason in message
    assert len(message) < 400


def test_names_at_the_limits_are_taken(tmp_path, place):
    names = ("x" * 255, "é" * 127, "a..b/..c/d..", "/".join(["d"] * 32), "name with blanks:and colons")
    written = unpack(make(tmp_path / "a.zip", *((name, b"1") for name in names)), place / "data")
    assert {one.name for one in written} == set(names)


@pytest.mark.parametrize(
    ("mode", "reason"),
    [
        (stat.S_IFLNK | 0o777, "is a link"),
        (stat.S_IFIFO | 0o644, "special"),
        (stat.S_IFCHR | 0o644, "special"),
        (stat.S_IFBLK | 0o644, "special"),
        (stat.S_IFSOCK | 0o644, "special"),
        (stat.S_IFDIR | 0o755, "folder and a file"),
    ],
)
def test_links_and_special_files_are_refused(tmp_path, place, mode, reason):
    archive = make(tmp_path / "a.zip", (with_mode("a", mode), b"/etc/passwd"), ("a/b", b"through the link"))
    assert reason in refused(archive, place)


def test_modes_are_not_taken_over(tmp_path, place):
    unpack(make(tmp_path / "a.zip", (with_mode("run.sh", stat.S_IFREG | 0o4777), b"#!/bin/sh\n")), place / "data")
    assert (place / "data" / "run.sh").stat().st_mode & (stat.S_ISUID | 0o111) == 0


@pytest.mark.parametrize("names", [("A/ct.png", "a/CT.png"), ("\u00fc.png", "u\u0308.png"), ("x", "x"), ("x/", "X")])
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_names_that_fall_together_are_refused(tmp_path, place, names):
    archive = make(tmp_path / "a.zip", *((name, b"" if name.endswith("/") else b"1") for name in names))
    assert "name of another" in refused(archive, place)


def test_a_file_that_is_also_a_folder_is_refused(tmp_path, place):
    assert "is a file" in refused(make(tmp_path / "a.zip", ("x/y/z", b"1"), ("X", b"2")), place)


def patched(archive: Path, field: int, value: bytes) -> Path:
    """Change a field in the central directory's first entry (offsets: APPNOTE.TXT 4.3.12)."""
    raw = bytearray(archive.read_bytes())
    entry = raw.index(b"PK\x01\x02")
    raw[entry + field : entry + field + len(value)] = value
    archive.write_bytes(raw)
    return archive


def test_an_encrypted_member_is_refused(tmp_path, place):
    assert "member 'a' is encrypted" in refused(
        patched(make(tmp_path / "a.zip", ("a", b"1")), 8, struct.pack("<H", 1)), place
    )


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_methods_that_need_memory_of_the_archives_choice_are_refused(tmp_path, place, method):
    assert "method" in refused(make(tmp_path / "a.zip", ("a", b"1" * 100), compression=method), place)


def test_a_bomb_is_refused_before_it_is_unpacked(tmp_path, place):
    archive = make(tmp_path / "a.zip", ("a.png", b"\0" * 50_000_000))
    assert archive.stat().st_size < 100_000
    assert "250 times" in refused(archive, place)
    # Without that limit the sum of the declared sizes stops it.
    assert "50000000 bytes" in refused(archive, place, max_ratio=2000, max_bytes=1_000_000)


def test_many_small_members_are_counted_together(tmp_path, place):
    archive = make(tmp_path / "a.zip", *((f"{number}.png", b"\0" * 1_000_000) for number in range(5)))
    assert "would unpack to 5000000" in refused(archive, place, max_bytes=4_999_999)
    assert "5 members" in refused(archive, place, max_files=4)
    assert len(unpack(archive, place / "data", max_bytes=5_000_000, max_files=5)) == 5


@pytest.mark.parametrize("declared", [1000, 999_999])
def test_a_member_longer_than_it_declares_is_refused(tmp_path, place, declared):
    archive = make(tmp_path / "a.zip", ("a.png", random.Random(1).randbytes(1_000_000)))
    refused(patched(archive, 24, struct.pack("<I", declared)), place)


def test_a_member_shorter_than_it_declares_is_refused(tmp_path, place):
    archive = make(tmp_path / "a.zip", ("a.png", random.Random(1).randbytes(1_000)))
    assert "not as long" in refused(patched(archive, 24, struct.pack("<I", 2_000)), place)


def test_members_that_share_their_bytes_are_stopped(tmp_path, place):
    """Overlapping members (Fifield 2019): the directory names one stored member a hundred times."""
    archive = make(tmp_path / "a.zip", ("a00", b"\0" * 1000), compression=zipfile.ZIP_STORED)
    raw = archive.read_bytes()
    start, end = raw.index(b"PK\x01\x02"), raw.index(b"PK\x05\x06")
    entries = [raw[start:end].replace(b"a00", f"a{number:02}".encode()) for number in range(100)]
    size = sum(map(len, entries))
    tail = raw[end : end + 8] + struct.pack("<HHII", 100, 100, size, start) + raw[end + 20 :]
    archive.write_bytes(raw[:start] + b"".join(entries) + tail)
    with zipfile.ZipFile(archive) as opened:
        assert len(opened.infolist()) == 100
    refused(archive, place)


def test_a_changed_byte_is_found_by_the_checksum(tmp_path, place):
    content = random.Random(1).randbytes(10_000)
    archive = make(tmp_path / "a.zip", ("a", content), compression=zipfile.ZIP_STORED)
    raw = bytearray(archive.read_bytes())
    raw[raw.index(content[:16]) + 500] ^= 1
    archive.write_bytes(raw)
    assert "CRC" in refused(archive, place)


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.999])
def test_a_truncated_archive_is_refused(tmp_path, place, share):
    archive = make(tmp_path / "a.zip", *FILES.items())
    raw = archive.read_bytes()
    archive.write_bytes(raw[: int(len(raw) * share)])
    assert "no intact ZIP" in refused(archive, place)


def test_what_is_no_archive_is_refused(tmp_path, place):
    (tmp_path / "a.zip").write_bytes(b"<!DOCTYPE html><html>Sign in</html>" * 100)
    assert "no intact ZIP" in refused(tmp_path / "a.zip", place)
    empty = io.BytesIO()
    zipfile.ZipFile(empty, "w").close()
    (tmp_path / "a.zip").write_bytes(empty.getvalue())
    assert "empty" in refused(tmp_path / "a.zip", place)


def test_an_archive_that_is_not_there_is_named(tmp_path, place):
    assert "No such file" in refused(tmp_path / "none.zip", place, InputError)


def test_a_full_disk_is_seen_before_anything_is_written(tmp_path, place, monkeypatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr("shutil.disk_usage", lambda path: usage(10**9, 10**9 - 1000, 1000))
    message = refused(make(tmp_path / "a.zip", *FILES.items()), place, InputError)
    assert f"{sum(map(len, FILES.values()))} bytes" in message
    assert "1000 free" in message


def test_an_interrupt_leaves_nothing(tmp_path, place):
    def interrupt(done: int, total: int) -> None:
        assert len(list(place.iterdir())) == 2, "nothing was written yet, so nothing is tested"
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        unpack(make(tmp_path / "a.zip", *FILES.items()), place / "data", progress=interrupt)
    assert [file.name for file in place.iterdir()] == ["neighbour.txt"]


def test_a_folder_in_use_is_left_alone_and_an_empty_one_is_used(tmp_path, place):
    archive = make(tmp_path / "a.zip", ("a", b"1"))
    (place / "data").mkdir()
    (place / "data" / "mine.txt").write_text("mine")
    with pytest.raises(InputError, match="exists already"):
        unpack(archive, place / "data")
    assert [file.name for file in (place / "data").iterdir()] == ["mine.txt"]
    (place / "data" / "mine.txt").unlink()
    unpack(archive, place / "data")
    assert (place / "data" / "a").read_bytes() == b"1"


@pytest.mark.skipif(sys.platform == "win32", reason="links need rights on Windows")
def test_a_link_in_the_place_of_the_folder_is_not_followed(tmp_path, place):
    (tmp_path / "elsewhere").mkdir()
    (place / "data").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(InputError, match="exists already"):
        unpack(make(tmp_path / "a.zip", ("a", b"1")), place / "data")
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_the_package_never_unpacks_in_one_call(repository):
    for path in (repository / "monai_ctmri").rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        assert not re.search(r"\.extract(all)?\(|unpack_archive\(|unzip\s*=\s*True", text), path
