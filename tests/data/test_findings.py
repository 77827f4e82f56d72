"""A finding is of a known kind, and a list of findings survives its file."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import pytest

from monai_ctmri.data.findings import COLUMNS, KINDS, SEVERITIES, Finding, read_findings, write_findings
from monai_ctmri.errors import InputError


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_has_a_severity_and_a_meaning(kind: str) -> None:
    severity, meaning = KINDS[kind]
    assert severity in SEVERITIES
    assert meaning
    assert Finding(Path("a.png"), kind).severity == severity


def test_the_kinds_cannot_be_changed() -> None:
    with pytest.raises(TypeError):
        KINDS["new"] = ("error", "x")  # type: ignore[index]


def test_a_severity_given_replaces_the_usual_one() -> None:
    assert Finding(Path("a.png"), "constant", severity="info").severity == "info"


@pytest.mark.parametrize("change", [{"kind": "odd"}, {"kind": "blank", "severity": "fatal"}])
def test_unknown_words_are_refused_in_one_line(change: dict[str, str]) -> None:
    with pytest.raises(InputError, match=r"^a\.png: .*; use one of") as error:
        Finding(Path("a.png"), **change)
    assert "\n" not in str(error.value)


def test_a_measure_is_one_line() -> None:
    assert Finding(Path("a.png"), "blank", " 1 \n of\t2\r\n").measure == "1 of 2"


def test_written_findings_are_read_back(tmp_path: Path) -> None:
    findings = [
        Finding(tmp_path / "in" / "a.png", "blank", 'says "no", twice'),
        Finding(tmp_path / "beside" / "ä b,c.png", "near_duplicate", "distance 3 of 256", "info"),
        Finding(tmp_path / "beside" / "line\rbreak\nhere.png", "cut_off"),
        Finding(tmp_path.parent / "elsewhere.nii.gz", "tilted", "18.5 degrees"),
    ]
    path = tmp_path / "in" / "findings.csv"
    write_findings(path, findings)
    assert read_findings(path) == findings


def test_the_file_is_plain_csv_with_relative_paths(tmp_path: Path) -> None:
    write_findings(tmp_path / "findings.csv", [Finding(tmp_path / "images" / "a.png", "constant", "0 everywhere")])
    rows = list(csv.reader(io.StringIO((tmp_path / "findings.csv").read_text())))
    assert rows == [list(COLUMNS), ["images/a.png", "constant", "0 everywhere", "error"]]
    assert [entry.name for entry in tmp_path.iterdir()] == ["findings.csv"]


def test_an_empty_list_is_a_list(tmp_path: Path) -> None:
    write_findings(tmp_path / "findings.csv", [])
    assert read_findings(tmp_path / "findings.csv") == []


def test_what_a_spreadsheet_saved_is_read(tmp_path: Path) -> None:
    path = tmp_path / "findings.csv"
    path.write_bytes(b"\xef\xbb\xbffile,kind,measure,severity\r\na.png,blank,,\r\n")
    assert read_findings(path) == [Finding(tmp_path / "a.png", "blank")]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "no list of findings"),
        (b"ct,mri\n", "no list of findings"),
        (b"file,kind,measure,severity\na.png,blank\n", "line 2 is no finding"),
        (b"file,kind,measure,severity\na.png,blank,1,error,more\n", "line 2 is no finding"),
        (b"file,kind,measure,severity\n,blank,1,error\n", "line 2 is no finding"),
        (b"file,kind,measure,severity\na.png,odd,1,error\n", "unknown kind"),
        (b"file,kind,measure,severity\na.png,blank,1,fatal\n", "severity 'fatal'"),
        (b'file,kind,measure,severity\n"a.png,blank,1,error\n', "cannot be read"),
        (b"\xff\xfe\x00", "cannot be read"),
    ],
)
def test_a_broken_list_is_refused_in_one_line(tmp_path: Path, content: bytes, words: str) -> None:
    path = tmp_path / "findings.csv"
    path.write_bytes(content)
    with pytest.raises(InputError, match=words) as error:
        read_findings(path)
    assert "\n" not in str(error.value)


def test_a_missing_list_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read"):
        read_findings(tmp_path / "none.csv")


def test_a_name_that_is_no_unicode_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="not valid Unicode"):
        write_findings(tmp_path / "findings.csv", [Finding(tmp_path / "a\udcff.png", "blank")])
    assert list(tmp_path.iterdir()) == []


def test_a_table_behind_a_link_names_files_that_are_found(tmp_path):
    """The system follows links before it applies "..": a path relative to the link would lead elsewhere."""
    (tmp_path / "far" / "away").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "far" / "away")
    (tmp_path / "a.png").write_bytes(b"x")
    write_findings(tmp_path / "link" / "findings.csv", [Finding(tmp_path / "a.png", "blank")])
    named = (tmp_path / "link" / "findings.csv").read_text().splitlines()[1].split(",")[0]
    assert (tmp_path / "link" / named).resolve() == tmp_path / "a.png"
