"""Bad input ends in exit code 2 and one line that names the file; nothing is written where the results would go."""

from __future__ import annotations

import logging
import re
import shutil
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from monai_ctmri import cli
from monai_ctmri.data.phantom import write_phantom

PROGRAM = Path(sys.executable).with_name("monai-ctmri")
PROGRESS = re.compile(r"[A-Z][a-z ()-]+: done \(\d+\)")


@pytest.fixture(scope="module")
def phantom(tmp_path_factory) -> Path:
    """Six subjects of two slices; tests change copies."""
    return write_phantom(tmp_path_factory.mktemp("data") / "phantom", 6, size=32, slices=2).parent


@pytest.fixture
def data(phantom, tmp_path) -> Path:
    return Path(shutil.copytree(phantom, tmp_path / "data"))


@pytest.fixture
def out(tmp_path) -> Path:
    return tmp_path / "run"


@pytest.fixture
def refusal(monkeypatch, capfd):
    """Call the program; return its one line, after checking the exit code and that there is no more."""
    level = logging.root.manager.disable

    def call(*arguments: object) -> str:
        monkeypatch.setattr("sys.argv", ["monai-ctmri", *map(str, arguments)])
        capfd.readouterr()
        with warnings.catch_warnings(), pytest.raises(SystemExit) as stop:
            cli.main()
        assert stop.value.code == 2
        stdout, stderr = capfd.readouterr()
        assert stdout == ""
        assert stderr.endswith("\n")
        *before, line = stderr.splitlines()
        # What was done before the mistake could be seen is progress, and nothing else.
        assert all(PROGRESS.fullmatch(one) for one in before), stderr
        assert line.startswith("Error: ")
        return line

    yield call
    logging.disable(level)


def rows(data: Path) -> list[str]:
    return (data / "manifest.csv").read_text().splitlines()


def test_a_missing_file_is_named(refusal, data, out):
    gone = data / "mri" / "phantom-000003_01.png"
    gone.unlink()
    line = refusal("benchmark", data / "manifest.csv", "--out", out)
    assert line.startswith(f"Error: {gone}: no such file; ")
    assert not out.exists()


def test_a_picture_that_is_cut_off_is_named(refusal, data, out):
    broken = data / "ct" / "phantom-000002_00.png"
    content = broken.read_bytes()
    broken.write_bytes(content[: len(content) // 2])
    line = refusal("benchmark", data, "--out", out)
    assert line.startswith(f"Error: {broken}: not a complete .png file; ")
    assert not out.exists()


def test_text_under_the_name_of_a_picture_is_named(refusal, data, out):
    text = data / "mri" / "phantom-000000_00.png"
    text.write_text("This is no picture.\n" * 50)
    line = refusal("benchmark", data, "--out", out)
    assert line.startswith(f"Error: {text}: not a complete .png file; ")
    assert not out.exists()


def test_several_bad_files_are_one_line_that_counts_them(refusal, data, out):
    for name in ("phantom-000001_00.png", "phantom-000004_01.png", "phantom-000005_00.png"):
        (data / "ct" / name).write_bytes(b"")
    line = refusal("benchmark", data, "--out", out)
    assert str(data / "ct" / "phantom-000001_00.png") in line
    assert line.endswith("(and 2 more)")
    assert not out.exists()


def test_sizes_that_differ_within_a_pair_are_named(refusal, data, out):
    other = data / "mri" / "phantom-000001_01.png"
    Image.fromarray(np.zeros((24, 32), np.uint8)).save(other)
    line = refusal("benchmark", data, "--out", out)
    assert line.startswith(f"Error: {other}: mri is 24 x 32 pixels, ct of case 'phantom-000001_01' is 32 x 32")
    assert not out.exists()


def test_a_csv_without_the_columns_is_named(refusal, data, out):
    manifest = data / "other.csv"
    manifest.write_text("patient,file\n1,a.png\n")
    line = refusal("benchmark", manifest, "--out", out)
    assert line.startswith(f"Error: {manifest}: columns 'patient, file' lack subject")
    assert not out.exists()


@pytest.mark.parametrize("content", ["", "ct,mri,subject,label\n", "\n\n"], ids=["no byte", "header", "blank lines"])
def test_an_empty_manifest_is_named(refusal, data, out, content):
    manifest = data / "empty.csv"
    manifest.write_text(content)
    assert refusal("benchmark", manifest, "--out", out) == f"Error: {manifest}: no cases; give one case a row"
    assert not out.exists()


@pytest.mark.parametrize("name", ["nothing.csv", "nothing.json", "nothing"])
def test_a_manifest_that_does_not_exist_is_named(refusal, data, out, name):
    assert refusal("benchmark", data / name, "--out", out).startswith(f"Error: {data / name}: ")
    assert not out.exists()


def test_a_folder_without_a_manifest_is_named(refusal, data, out):
    assert refusal("benchmark", data / "ct", "--out", out).startswith(f"Error: {data / 'ct' / 'manifest.csv'}: ")
    assert not out.exists()


def test_a_label_that_is_none_is_named_with_its_line(refusal, data, out):
    lines = rows(data)
    lines[3] = lines[3].replace(",0,,,", ",healthy,,,")
    (data / "manifest.csv").write_text("\n".join(lines))
    line = refusal("benchmark", data, "--out", out)
    assert line.startswith(f"Error: {data / 'manifest.csv'}: line 4: label 'healthy'")
    assert not out.exists()


@pytest.mark.parametrize("size", [66, 130, 16, 0, -128])
def test_an_image_size_the_network_cannot_take(refusal, data, out, size):
    line = refusal("benchmark", data, "--out", out, "--image-size", size)
    assert f"image size {size}: must be at least 32 and divisible by 4" in line
    assert not out.exists()


@pytest.mark.parametrize(
    ("option", "value"),
    [("--alpha", 0), ("--alpha", 1), ("--alpha", "nan"), ("--epochs", 0), ("--batch-size", 0), ("--seed", -1),
     ("--learning-rate", 0), ("--learning-rate", "nan")],
)  # fmt: skip
def test_a_setting_out_of_range_is_named(refusal, data, out, option, value):
    line = refusal("benchmark", data, "--out", out, option, value)
    assert option.strip("-").split("-")[-1] in line
    assert not out.exists()


@pytest.mark.parametrize(
    ("option", "value", "part"),
    [("--contrast", "T3", "contrast: 'T3' is unknown; choose T1, T2, PD, FLAIR or mixed"),
     ("--form", "dicom", "form: 'dicom' is unknown"), ("--size", 8, "size 8"), ("--subjects", 0, "subjects 0"),
     ("--seed", -1, "seed -1"), ("--workers", 0, "workers 0"), ("--slices", 0, "slices 0")],
)  # fmt: skip
def test_a_phantom_that_cannot_be_drawn(refusal, out, option, value, part):
    assert part in refusal("phantom", "--out", out, option, value)
    assert not out.exists()


def test_a_folder_that_holds_another_phantom_is_named_and_kept(refusal, data):
    before = {file: file.read_bytes() for file in data.rglob("*") if file.is_file()}
    line = refusal("phantom", "--out", data, "--subjects", 7, "--size", 32, "--slices", 2)
    assert line.startswith(f"Error: {data}: holds a phantom with other settings; ")
    assert {file: file.read_bytes() for file in data.rglob("*") if file.is_file()} == before


def test_a_folder_that_holds_another_run_is_named_and_kept(refusal, data, out):
    out.mkdir()
    (out / "config.yaml").write_text("manifest: /elsewhere/manifest.csv\nsettings: {}\n")
    line = refusal("benchmark", data, "--out", out)
    assert line.startswith(f"Error: {out / 'config.yaml'}: is of a run with other settings or data; ")
    assert [file.name for file in out.iterdir()] == ["config.yaml"]
    assert (out / "config.yaml").read_text() == "manifest: /elsewhere/manifest.csv\nsettings: {}\n"


@pytest.mark.parametrize("below", ["", "run"])
@pytest.mark.parametrize("command", ["phantom", "demo", "benchmark"])
def test_an_out_that_is_a_file_is_named(refusal, data, tmp_path, command, below):
    file = tmp_path / "notes.txt"
    file.write_text("mine")
    line = refusal(command, *([data] if command == "benchmark" else []), "--out", file / below)
    assert line == f"Error: {file}: a file, not a folder; choose another --out"
    assert file.read_text() == "mine"


@pytest.mark.parametrize(("option", "value"), [("--subjects", 4), ("--seed", -1), ("--epochs", 0)])
def test_a_demo_that_cannot_end_is_refused_before_it_draws(refusal, out, option, value):
    assert option.strip("-") in refusal("demo", "--short", "--out", out, option, value)
    assert not out.exists()


def test_all_of_it_as_a_program(data, out):
    gone = data / "ct" / "phantom-000005_01.png"
    gone.unlink()
    done = subprocess.run([PROGRAM, "benchmark", data, "--out", out], capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stdout == ""
    *before, line = done.stderr.splitlines()
    assert all(PROGRESS.fullmatch(one) for one in before)
    assert line == f"Error: {gone}: no such file; check the path in the manifest"
    assert not out.exists()
