"""Atomic writing: whole files under final names, or nothing."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path

import pytest

from monai_ctmri.data.files import write_atomically, write_float_picture, write_json, write_text


def test_content_arrives_and_no_temporary_file_stays(tmp_path: Path) -> None:
    with write_atomically(tmp_path / "scores.csv") as temporary:
        temporary.write_bytes(b"a,b\n")
        assert not (tmp_path / "scores.csv").exists()
    assert (tmp_path / "scores.csv").read_bytes() == b"a,b\n"
    assert os.listdir(tmp_path) == ["scores.csv"]


def test_temporary_name_is_in_the_same_folder_and_keeps_every_suffix(tmp_path: Path) -> None:
    with write_atomically(tmp_path / "map.nii.gz") as temporary:
        assert temporary.parent == tmp_path
        assert temporary.name.endswith(".nii.gz")
        temporary.write_bytes(b"x")


def test_missing_folders_are_made(tmp_path: Path) -> None:
    write_text(tmp_path / "a" / "b" / "note.txt", "x")
    assert (tmp_path / "a" / "b" / "note.txt").read_text() == "x"


def write_half(path: Path, error: BaseException) -> None:
    with write_atomically(path) as temporary:
        temporary.write_text("half")
        raise error


@pytest.mark.parametrize("error", [RuntimeError("cut off"), KeyboardInterrupt()])
def test_an_error_keeps_the_old_file_and_leaves_nothing_else(tmp_path: Path, error: BaseException) -> None:
    with pytest.raises(type(error)):
        write_half(tmp_path / "metrics.json", error)
    assert os.listdir(tmp_path) == []
    (tmp_path / "metrics.json").write_text("old")
    with pytest.raises(type(error)):
        write_half(tmp_path / "metrics.json", error)
    assert os.listdir(tmp_path) == ["metrics.json"]
    assert (tmp_path / "metrics.json").read_text() == "old"


def test_writing_nothing_is_an_error_and_keeps_the_old_file(tmp_path: Path) -> None:
    (tmp_path / "x").write_text("old")
    with pytest.raises(FileNotFoundError), write_atomically(tmp_path / "x"):
        pass
    assert (tmp_path / "x").read_text() == "old"


def test_an_existing_file_is_replaced(tmp_path: Path) -> None:
    write_text(tmp_path / "x", "a much longer text than the next")
    write_text(tmp_path / "x", "new")
    assert (tmp_path / "x").read_text() == "new"


def test_two_writers_of_one_file_do_not_meet(tmp_path: Path) -> None:
    with write_atomically(tmp_path / "x") as one, write_atomically(tmp_path / "x") as two:
        assert one != two
        one.write_text("one")
        two.write_text("two")
    assert (tmp_path / "x").read_text() == "one"  # the outer block ends last
    assert os.listdir(tmp_path) == ["x"]


def test_text_is_utf8(tmp_path: Path) -> None:
    write_text(tmp_path / "x", "Größe µm 脑")
    assert (tmp_path / "x").read_bytes() == "Größe µm 脑".encode()


def test_json_is_read_back_and_ends_with_a_newline(tmp_path: Path) -> None:
    content = {"auc": 0.75, "parts": ["train", None], "n": {"a": 1}}
    write_json(tmp_path / "x.json", content)
    text = (tmp_path / "x.json").read_text()
    assert json.loads(text) == content
    assert text.endswith("}\n")


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_json_refuses_what_is_no_number_and_writes_nothing(tmp_path: Path, value: float) -> None:
    with pytest.raises(ValueError, match="JSON"):
        write_json(tmp_path / "x.json", {"auc": [value]})
    assert os.listdir(tmp_path) == []


def test_float_picture_keeps_values_and_shape(tmp_path: Path) -> None:
    import numpy as np
    from PIL import Image

    values = np.random.default_rng(0).normal(size=(3, 5))
    write_float_picture(tmp_path / "maps" / "a.tif", values.T.T)
    read = np.asarray(Image.open(tmp_path / "maps" / "a.tif"))
    assert read.dtype == np.float32
    np.testing.assert_array_equal(read, values.astype(np.float32))
    assert [path.name for path in (tmp_path / "maps").iterdir()] == ["a.tif"]
