"""Files are taken as they were written or not at all."""

from __future__ import annotations

import json
import logging
import math

import numpy as np
import pytest
import torch

from monai_ctmri.detection import fitted_files
from monai_ctmri.detection.fitted_files import pack_fitted, read_fitted, unpack_fitted, write_fitted
from monai_ctmri.errors import InputError


@pytest.fixture
def folder(tmp_path):
    write_fitted(tmp_path / "model", "fitted", {"class": "A"}, {".pt": b"tensors", ".skops": b"objects"})
    return tmp_path / "model"


def change(folder, **entries):
    path = folder / "fitted.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **entries}))


def refusal(folder, name="fitted"):
    with pytest.raises(InputError) as caught:
        read_fitted(folder, name)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_what_was_written_is_read(folder):
    content, files = read_fitted(folder, "fitted")
    assert content["class"] == "A"
    assert files == {".pt": b"tensors", ".skops": b"objects"}
    assert sorted(path.name for path in folder.iterdir()) == ["fitted.json", "fitted.pt", "fitted.skops"]


@pytest.mark.parametrize("name", ["fitted.json", "fitted.pt", "fitted.skops"])
def test_a_missing_file_is_named(folder, name):
    (folder / name).unlink()
    assert name in refusal(folder)
    assert "cannot be read" in refusal(folder)


@pytest.mark.parametrize("data", [b"", b"tensor", b"tensors ", b"Tensors"])
def test_a_changed_file_is_refused(folder, data):
    (folder / "fitted.pt").write_bytes(data)
    assert "fitted.pt: is not the file that was saved: its SHA-256 differs" in refusal(folder)


@pytest.mark.parametrize("text", ["", "{", "\xff", "[" * 100_000])
def test_a_json_cut_off_is_refused(folder, text):
    (folder / "fitted.json").write_text(text, encoding="latin-1")
    assert "is no JSON, or was cut off" in refusal(folder)


@pytest.mark.parametrize("content", ["[]", "{}", '"text"', '{"format": "other", "schema_version": 1}'])
def test_a_foreign_json_is_refused(folder, content):
    (folder / "fitted.json").write_text(content)
    assert "was not written by monai_ctmri" in refusal(folder)


def test_a_newer_schema_is_refused_and_no_number_is_none(folder):
    change(folder, schema_version=fitted_files.SCHEMA_VERSION + 1)
    assert "schema version 2 is newer than 1" in refusal(folder)
    for wrong in (0, "1", None, [1]):
        change(folder, schema_version=wrong)
        assert "is none" in refusal(folder)


@pytest.mark.parametrize("entry", ["../secret.pt", "/etc/passwd", "other.pt", "fitted.pt/../fitted.pt", "fitted.exe"])
def test_a_file_that_is_not_its_own_is_never_read(folder, entry, monkeypatch):
    (folder.parent / "secret.pt").write_bytes(b"secret")
    change(folder, files={entry: "0" * 64})
    monkeypatch.setattr(fitted_files, "_read_unchanged", lambda *_: pytest.fail("read"))
    assert "not its own" in refusal(folder)


@pytest.mark.parametrize("files", [None, [], "fitted.pt"])
def test_files_must_be_listed(folder, files):
    change(folder, files=files)
    assert "does not list its files" in refusal(folder)


@pytest.mark.parametrize("name", ["", "../fitted", "a/b", "a\\b", "fitted.json", ".", "a\n"])
def test_a_name_is_no_path(folder, name):
    assert "is no name for saved files" in refusal(folder, name)
    with pytest.raises(InputError, match="is no name"):
        write_fitted(folder, name, {}, {})


def test_another_major_version_is_a_warning_that_names_both(folder, caplog):
    versions = json.loads((folder / "fitted.json").read_text())["versions"]
    with caplog.at_level(logging.WARNING):
        read_fitted(folder, "fitted")
        assert not caplog.records
        change(folder, versions={**versions, "pyod": "2.0.5"})
        read_fitted(folder, "fitted")
    (record,) = caplog.records
    assert "pyod '2.0.5'" in record.getMessage()
    assert f"read with {versions['pyod']}" in record.getMessage()


def test_a_patch_is_no_other_version_but_0_2_is_not_0_1(folder, caplog, monkeypatch):
    versions = json.loads((folder / "fitted.json").read_text())["versions"]
    monkeypatch.setattr(fitted_files, "_versions", lambda: {"pyod": "3.9.0", "monai_ctmri": "0.2.0"})
    with caplog.at_level(logging.WARNING):
        read_fitted(folder, "fitted")
    assert versions["pyod"].startswith("3.")
    assert [record.getMessage().count("monai_ctmri '0.1.0'") for record in caplog.records] == [1]


@pytest.mark.parametrize("content", [{"a": math.nan}, {"a": object()}, {"a": np.int64(1)}])
def test_content_json_cannot_hold_leaves_no_file(tmp_path, content):
    with pytest.raises(InputError, match="cannot be saved"):
        write_fitted(tmp_path / "new", "fitted", content, {".pt": b""})
    assert not (tmp_path / "new").exists()


def test_writing_cut_off_leaves_nothing_that_is_taken_for_whole(folder, monkeypatch):
    def full(*arguments):
        raise OSError("disk full")

    monkeypatch.setattr(fitted_files, "write_json", full)
    with pytest.raises(OSError, match="disk full"):
        write_fitted(folder, "fitted", {"class": "B"}, {".pt": b"new", ".skops": b"new"})
    assert "SHA-256 differs" in refusal(folder)


PARTS = {".pt": b"tensors", ".skops": b"objects"}


def test_what_was_packed_goes_through_a_file_of_plain_tensors(tmp_path):
    torch.save({"one": pack_fitted("fitted", {"class": "A"}, PARTS)}, tmp_path / "state.pt")
    content, files = unpack_fitted("fitted", torch.load(tmp_path / "state.pt", weights_only=True)["one"])
    assert content["class"] == "A"
    assert files == PARTS


def test_what_was_packed_is_taken_whole_and_unchanged_or_not_at_all():
    packed = pack_fitted("fitted", {"class": "A"}, PARTS)
    changed = packed[".skops"].clone()
    changed[0] += 1
    newer = json.dumps({**json.loads(packed["json"]), "schema_version": 99})
    wrong = [
        ({**packed, ".skops": changed}, "SHA-256 differs"),
        ({name: packed[name] for name in ("json", ".pt")}, "SHA-256 differs"),
        ({**packed, "json": packed["json"][:-9]}, "no JSON"),
        ({**packed, "json": newer}, "newer than"),
        ({}, "holds nothing fitted"),
        ("text", "holds nothing fitted"),
        ({**packed, ".skops": b"objects"}, "holds nothing fitted"),
    ]
    for one, what in wrong:
        with pytest.raises(InputError, match=what):
            unpack_fitted("fitted", one)
    with pytest.raises(InputError, match="not its own"):
        unpack_fitted("another", packed)
    with pytest.raises(InputError, match="cannot be saved"):
        pack_fitted("fitted", {"number": math.nan}, PARTS)
