"""Manifests: reading, writing, naming and refusing."""

from __future__ import annotations

import csv
import json
import pickle
import subprocess
import sys
from dataclasses import FrozenInstanceError, replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from monai_ctmri.data.manifest import COLUMNS, SPLITS, Case, Manifest, case_names
from monai_ctmri.errors import InputError

HEADER = "ct,mri,subject,label,mask,split,note\n"


def write(path: Path, text: str | bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def one_line(error: pytest.ExceptionInfo[InputError]) -> str:
    message = str(error.value)
    assert "\n" not in message
    assert "; " in message  # a remedy follows the problem
    return message


@pytest.fixture
def cohort(tmp_path: Path) -> Manifest:
    """Three subjects in two modalities, every optional entry both set and unset."""
    return Manifest(
        [
            Case("a1", "anna", tmp_path / "ct/a1.png", tmp_path / "mri/a1.png", 0, None, "train"),
            Case("a2", "anna", tmp_path / "ct/a2.png", tmp_path / "mri/a2.png", 0, None, "train", 'T2, "late"\r\nline'),
            Case("b1", "bert", tmp_path / "ct/b1.png", None, 1, tmp_path / "masks/b1.nii.gz", "test"),
            Case("c1", "carl", None, tmp_path / "mri/c1.png", None, None, "calibration", "FLAIR"),
            Case("d1", "dora", None, tmp_path / "mri/d1.png"),
        ]
    )


# --- cases and manifests in memory ------------------------------------------------------------------------------------


def test_case_is_immutable_and_knows_its_modalities(cohort: Manifest) -> None:
    assert [case.modalities for case in cohort] == [("ct", "mri"), ("ct", "mri"), ("ct",), ("mri",), ("mri",)]
    with pytest.raises(FrozenInstanceError):
        cohort[0].label = 1  # type: ignore[misc]
    assert not hasattr(cohort[0], "__dict__")


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"ct": None}, "neither ct nor mri"),
        ({"subject": "  "}, "no subject"),
        ({"label": 2}, "label 2"),
        ({"label": True}, "label True"),
        ({"label": 1.0}, "label 1.0"),
        ({"split": "valid"}, "unknown split 'valid'"),
        ({"name": "a/b"}, "not a safe file name"),
        ({"name": ".hidden"}, "not a safe file name"),
        ({"name": ""}, "not a safe file name"),
        ({"name": "a\n"}, "not a safe file name"),
    ],
)
def test_case_refuses_nonsense(change: dict, problem: str) -> None:
    with pytest.raises(InputError, match=problem) as error:
        replace(Case("a", "anna", Path("a.png"), label=0, split="train"), **change)
    one_line(error)


def test_manifest_is_an_immutable_sequence(cohort: Manifest) -> None:
    assert len(cohort) == 5
    assert list(cohort) == list(cohort.cases)
    assert cohort[-1].name == "d1"
    assert isinstance(cohort[1:3], Manifest)
    assert [case.name for case in cohort[1:3]] == ["a2", "b1"]
    assert cohort[0] in cohort
    assert cohort == Manifest(iter(cohort))
    assert hash(cohort) == hash(Manifest(cohort))
    assert pickle.loads(pickle.dumps(cohort)) == cohort
    with pytest.raises(AttributeError):
        cohort.cases = ()  # type: ignore[misc]
    with pytest.raises(IndexError):
        cohort[5]


def test_names_are_unique_even_when_case_is_ignored(cohort: Manifest) -> None:
    with pytest.raises(InputError, match="more than once"):
        cohort.with_cases([*cohort, replace(cohort[0], name="A1")])


def test_summaries(cohort: Manifest) -> None:
    assert cohort.subjects == ("anna", "bert", "carl", "dora")
    assert cohort.modalities == ()
    assert not cohort.is_paired
    assert cohort[:2].modalities == ("ct", "mri")
    assert cohort[:2].is_paired
    assert cohort[:3].modalities == ("ct",)
    assert cohort[3:].modalities == ("mri",)
    assert not cohort[3:].is_paired
    empty = Manifest([])
    assert (len(empty), empty.subjects, empty.modalities, empty.is_paired) == (0, (), (), False)


def test_select(cohort: Manifest) -> None:
    def names(**conditions: object) -> list[str]:
        return [case.name for case in cohort.select(**conditions)]  # type: ignore[arg-type]

    assert names() == ["a1", "a2", "b1", "c1", "d1"]
    assert names(split="train") == ["a1", "a2"]
    assert names(split="validation") == []
    assert names(label=0) == ["a1", "a2"]
    assert names(label=1) == ["b1"]
    assert names(label=None) == ["c1", "d1"]
    assert names(subjects=["carl", "anna"]) == ["a1", "a2", "c1"]
    assert names(subjects=[]) == []
    assert names(label=None, split="calibration", subjects=iter(["carl"])) == ["c1"]
    with pytest.raises(InputError, match="tset"):
        names(split="tset")


def test_with_splits_moves_whole_subjects_and_keeps_the_rest(cohort: Manifest) -> None:
    moved = cohort.with_splits({"anna": "test", "bert": None, "dora": "validation"})
    assert [case.split for case in moved] == ["test", "test", None, "calibration", "validation"]
    assert [case.split for case in cohort] == ["train", "train", "test", "calibration", None]
    with pytest.raises(InputError, match="emil"):
        cohort.with_splits({"emil": "test"})
    with pytest.raises(InputError, match="unknown split"):
        cohort.with_splits({"anna": "dev"})


def test_datalist_has_only_what_is_known(cohort: Manifest, tmp_path: Path) -> None:
    items = cohort.datalist()
    assert items[2] == {
        "case": "b1",
        "subject": "bert",
        "ct": str(tmp_path / "ct/b1.png"),
        "mask": str(tmp_path / "masks/b1.nii.gz"),
        "label": 1,
        "split": "test",
    }
    assert items[4] == {"case": "d1", "subject": "dora", "mri": str(tmp_path / "mri/d1.png")}


def test_datalist_paths_are_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert Manifest([Case("a", "s", Path("x/../a.png"))]).datalist()[0]["ct"] == str(tmp_path / "a.png")


# --- round trips ------------------------------------------------------------------------------------------------------


def test_csv_round_trip_is_exact(cohort: Manifest, tmp_path: Path) -> None:
    cohort.write_csv(tmp_path / "manifest.csv")
    assert Manifest.read(tmp_path / "manifest.csv") == cohort
    assert Manifest.read(tmp_path) == cohort  # a folder stands for its manifest.csv
    with (tmp_path / "manifest.csv").open(newline="") as file:
        rows = list(csv.reader(file))
    assert tuple(rows[0]) == COLUMNS == ("ct", "mri", "subject", "label", "mask", "split", "note")
    assert rows[3] == ["ct/b1.png", "", "bert", "1", "masks/b1.nii.gz", "test", ""]


def test_csv_of_a_selection_keeps_its_names(tmp_path: Path) -> None:
    write(tmp_path / "m.csv", "ct,subject\nnormal/1.png,a\nhemorrhage/1.png,b\n")
    whole = Manifest.read(tmp_path / "m.csv")
    assert [case.name for case in whole] == ["normal_1", "hemorrhage_1"]
    whole.write_csv(tmp_path / "whole.csv")
    assert (tmp_path / "whole.csv").read_text().splitlines()[0] == HEADER.strip()
    half = whole.select(subjects=["b"])
    half.write_csv(tmp_path / "half.csv")
    assert (tmp_path / "half.csv").read_text().splitlines()[0] == HEADER.strip() + ",case"
    assert Manifest.read(tmp_path / "half.csv") == half


def test_manifest_in_another_folder_points_to_the_same_files(cohort: Manifest, tmp_path: Path) -> None:
    for target in (tmp_path / "runs/1/manifest.csv", tmp_path / "runs/1/datalist.json"):
        (cohort.write_csv if target.suffix == ".csv" else cohort.write_datalist)(target)
        again = {case.name: case for case in Manifest.read(target)}
        assert again == {case.name: case for case in cohort}
        assert str(tmp_path) not in target.read_text()


def test_paths_that_leave_a_linked_folder_are_absolute(cohort: Manifest, tmp_path: Path) -> None:
    """``link/../ct`` would be resolved behind the link."""
    (tmp_path / "far/away").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "far/away")
    cohort.write_csv(tmp_path / "link/manifest.csv")
    assert Manifest.read(tmp_path / "link/manifest.csv") == cohort
    assert Manifest.read(tmp_path / "far/away/manifest.csv") == cohort


def test_datalist_json_has_a_list_a_split(cohort: Manifest, tmp_path: Path) -> None:
    cohort.write_datalist(tmp_path / "datalist.json")
    content = json.loads((tmp_path / "datalist.json").read_text())
    assert {key: [item["case"] for item in items] for key, items in content.items()} == {
        "training": ["a1", "a2"],
        "validation": [],
        "calibration": ["c1"],
        "test": ["b1"],
        "cases": ["d1"],
    }
    assert content["test"][0]["mask"] == "masks/b1.nii.gz"
    order = ["a1", "a2", "c1", "b1", "d1"]
    assert Manifest.read(tmp_path / "datalist.json") == Manifest(
        sorted(cohort, key=lambda case: order.index(case.name))
    )


def test_datalist_json_without_splits_has_one_list(cohort: Manifest, tmp_path: Path) -> None:
    cohort[4:].write_datalist(tmp_path / "datalist.json")
    assert list(json.loads((tmp_path / "datalist.json").read_text())) == ["cases"]


PARTS = st.text("abcÄ脑 ._-,'\"\\#%()", min_size=1, max_size=6).filter(lambda s: s.strip() == s and s.strip(". "))
FILES = st.lists(PARTS, min_size=1, max_size=3).map(lambda parts: "/".join(parts) + ".png")
CASES = st.tuples(
    FILES,
    st.one_of(st.none(), FILES),
    st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1).filter(lambda s: s.strip()),
    st.sampled_from([None, 0, 1]),
    st.one_of(st.none(), FILES),
    st.sampled_from([None, *SPLITS]),
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")),
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=st.lists(CASES, min_size=1, max_size=6))
def test_any_manifest_survives_both_formats(rows: list[tuple], tmp_path: Path) -> None:
    names = case_names([row[0] for row in rows], [row[2] for row in rows])
    assert len({name.casefold() for name in names}) == len(rows)
    manifest = Manifest(
        Case(
            name,
            subject,
            tmp_path / ct,
            tmp_path / mri if mri else None,
            label,
            tmp_path / mask if mask else None,
            split,
            note,
        )
        for name, (ct, mri, subject, label, mask, split, note) in zip(names, rows, strict=True)
    )
    manifest.write_csv(tmp_path / "m.csv")
    assert Manifest.read(tmp_path / "m.csv") == manifest
    manifest.write_datalist(tmp_path / "m.json")
    assert set(Manifest.read(tmp_path / "m.json")) == set(manifest)


# --- reading CSV ------------------------------------------------------------------------------------------------------


def test_reading_tolerates_what_spreadsheets_do(tmp_path: Path) -> None:
    path = write(
        tmp_path / "M.CSV",
        "\ufeff MRI ,Subject,Age,note\r\n\r\n a.png , anna ,63, free \r\n,,,\r\nb.png,bert\r\nc.png,carl,,,,\r\n",
    )
    assert Manifest.read(path) == Manifest(
        [
            Case("a", "anna", None, tmp_path / "a.png", note=" free "),
            Case("b", "bert", None, tmp_path / "b.png"),
            Case("c", "carl", None, tmp_path / "c.png"),
        ]
    )


def test_paths_are_relative_to_the_file_or_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "set/m.csv", f"ct,mri,subject\n../x/a.png,{tmp_path}/y/b.png,s\n")
    monkeypatch.chdir(tmp_path)
    case = Manifest.read("set/m.csv")[0]
    assert (case.ct, case.mri) == (tmp_path / "x/a.png", tmp_path / "y/b.png")


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        (",,s,0,,,", "neither ct nor mri"),
        (",,s,0,mask.png,,", "neither ct nor mri"),
        ("a.png,, ,0,,,", "no subject"),
        ("a.png,,s,2,,,", "label '2'"),
        ("a.png,,s,normal,,,", "label 'normal'"),
        ("a.png,,s,-1,,,", "label '-1'"),
        ("a.png,,s,0,,training,", "unknown split 'training'"),
        ("a.png,,s,0,,,T2, late", "more cells than columns"),
        ('"a.png,,s,0,,,', "not CSV"),
        ('"a"b.png,,s,0,,,', "not CSV"),
    ],
)
def test_bad_rows_are_named_by_file_and_line(tmp_path: Path, row: str, problem: str) -> None:
    path = write(tmp_path / "m.csv", HEADER + "ok.png,,t,0,,,\n\n" + row + "\n")
    with pytest.raises(InputError, match=problem) as error:
        Manifest.read(path)
    assert one_line(error).startswith(f"{path}: line 4: ")


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("", "no cases"),
        ("\n\n", "no cases"),
        (HEADER, "no cases"),
        (HEADER + ",,,,,,\n", "no cases"),
        ("ct,mri,label\na.png,b.png,0\n", "lack subject"),
        ("subject,label\ns,0\n", "lack subject, or both ct and mri"),
        ("a.png,b.png,s\n", "lack subject"),
        ("ct;mri;subject\na;b;s\n", "not separated by commas"),
        ("ct\tmri\tsubject\na\tb\ts\n", "not separated by commas"),
        ("ct,ct,subject\na.png,b.png,s\n", "column ct occurs twice"),
        (b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR", "binary data"),
        (HEADER.encode("utf-16"), "binary data"),
        (HEADER.encode() + "a.png,,Jürgen,,,,\n".encode("latin-1"), "not UTF-8"),
        ("ct,subject,case\na.png,s,x\nb.png,s,x\n", "more than once"),
        ("ct,subject,case\na.png,s,x\nb.png,s,\n", "line 3: no case name"),
        ("ct,subject,case\na.png,s,../x\n", "not a safe file name"),
        ("ct,subject,note\na.png,s," + "x" * 200_000 + "\n", "not CSV"),
    ],
)
def test_bad_csv_files_are_named(tmp_path: Path, content: str | bytes, problem: str) -> None:
    path = write(tmp_path / "m.csv", content)
    with pytest.raises(InputError, match=problem) as error:
        Manifest.read(path)
    assert one_line(error).startswith(f"{path}: ")


def test_missing_files_are_named(tmp_path: Path) -> None:
    (tmp_path / "folder.csv").mkdir()
    for given_path, named in [
        (tmp_path / "m.csv", "m.csv"),
        (tmp_path / "m.json", "m.json"),
        (tmp_path, "manifest.csv"),
        (tmp_path / "folder.csv", "folder.csv/manifest.csv"),
    ]:
        with pytest.raises(InputError, match="cannot be read") as error:
            Manifest.read(given_path)
        assert str(tmp_path / named) in one_line(error)
    with pytest.raises(InputError, match="not a manifest"):
        Manifest.read(write(tmp_path / "m.txt", HEADER))


def test_file_names_that_are_no_text_are_refused_when_writing(tmp_path: Path) -> None:
    manifest = Manifest([Case("a", "s", tmp_path / "\udcff.png")])
    with pytest.raises(InputError, match="not valid Unicode"):
        manifest.write_csv(tmp_path / "m.csv")
    assert not (tmp_path / "m.csv").exists()


# --- reading datalists ------------------------------------------------------------------------------------------------


def test_split_comes_from_the_name_of_the_list(tmp_path: Path) -> None:
    content = {
        "name": "a MONAI data set",
        "numTraining": 1,
        "training": [{"ct": "a.png", "subject": "a", "label": 0, "fold": 3}],
        "train": [{"ct": "b.png", "subject": "b"}],
        "val": [{"ct": "c.png", "subject": "c"}],
        "testing": [{"ct": "d.png", "subject": "d", "split": "test", "label": None}],
        "cases": [{"mri": "e.png", "subject": "e", "split": "calibration"}],
        "extra": [{"mri": "f.png", "subject": "f", "note": "late"}],
        "pictures": ["g.png"],
    }
    manifest = Manifest.read(write(tmp_path / "d.json", json.dumps(content)))
    assert [(case.name, case.split, case.label) for case in manifest] == [
        ("a", "train", 0),
        ("b", "train", None),
        ("c", "validation", None),
        ("d", "test", None),
        ("e", "calibration", None),
        ("f", None, None),
    ]
    assert manifest[-1].note == "late"


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("{", "not JSON"),
        ("[" * 100_000, "not JSON"),
        (b"\xff\xfe", "not JSON"),
        ("[]", "no datalist"),
        ("{}", "no cases"),
        ('{"training": []}', "no cases"),
        ('{"training": ["a.png"]}', "no cases"),
        ('{"training": [{"image": "a.png", "label": 0}]}', r"training\[0\]: neither ct nor mri"),
        ('{"test": [{"ct": "a.png", "subject": "s"}, {"ct": "a.png"}]}', r"test\[1\]: no subject"),
        ('{"test": [{"ct": "a.png", "subject": " "}]}', "no subject"),
        ('{"test": [{"ct": "a.png", "subject": 7}]}', "subject is not text"),
        ('{"test": [{"ct": ["a.png"], "subject": "s"}]}', "ct is not text"),
        ('{"test": [{"ct": "a.png", "subject": "s", "label": "0"}]}', "label '0'"),
        ('{"test": [{"ct": "a.png", "subject": "s", "label": true}]}', "label True"),
        ('{"test": [{"ct": "a.png", "subject": "s", "label": [1]}]}', r"label \[1\]"),
        ('{"x": [{"ct": "a.png", "subject": "s", "split": "dev"}]}', "unknown split 'dev'"),
        ('{"test": [{"ct": "a.png", "subject": "s", "split": "train"}]}', "split 'train' in the list 'test'"),
        (
            '{"test": [{"ct": "a.png", "subject": "s", "case": ""}, {"ct": "b", "subject": "s", "case": "b"}]}',
            "no case",
        ),
    ],
)
def test_bad_datalists_are_named(tmp_path: Path, content: str | bytes, problem: str) -> None:
    path = write(tmp_path / "d.json", content)
    with pytest.raises(InputError, match=problem) as error:
        Manifest.read(path)
    assert one_line(error).startswith(f"{path}: ")


# --- names ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("files", "subjects", "names"),
    [
        (["ct/16003.png", "ct/16004.png"], ["s", "s"], ["16003", "16004"]),
        (["x/brain.nii.gz", "brain.v2.nii"], ["s", "t"], ["brain", "brain.v2"]),
        (["p1/01.png", "p2/01.png", "p2/02.png"], ["a", "b", "b"], ["p1_01", "p2_01", "02"]),
        (["p1/ct/01.png", "p2/ct/01.png"], ["a", "b"], ["a_ct_01", "b_ct_01"]),
        (["d1/ct/01.png", "d2/ct/01.png"], ["a", "a"], ["a_d1_ct_01", "a_d2_ct_01"]),
        (["01.png", "01.png", "02.png"], ["a", "a", "a"], ["a_01-1", "a_01-2", "02"]),
        (["a/x.png", "b/x.png", "a_x.png"], ["s", "t", "u"], ["s_a_x", "b_x", "a_x"]),
        (["a/X.png", "b/x.png"], ["s", "t"], ["a_X", "b_x"]),
        (["slice 1 (a).png", "../.x.png", "脑.png"], ["s", "s", "s"], ["slice_1_a_", "x", "_"]),
        (["/data/p1/01.png", "/data/p2/01.png"], ["a", "b"], ["p1_01", "p2_01"]),
        ([], [], []),
    ],
)
def test_names(files: list[str], subjects: list[str], names: list[str]) -> None:
    assert case_names(files, subjects) == names


def test_names_do_not_depend_on_the_order_of_rows() -> None:
    files = ["p1/01.png", "p2/01.png", "p2/ct/01.png", "p3/ct/01.png", "9.png", "P1_01.png"]
    subjects = ["a", "b", "c", "d", "e", "f"]
    forward = dict(zip(files, case_names(files, subjects), strict=True))
    backward = dict(zip(files[::-1], case_names(files[::-1], subjects[::-1]), strict=True))
    assert forward == backward


# --- real manifests, import -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("folder", "modalities", "subjects", "paired"),
    [("pairs", ("ct", "mri"), 4, True), ("ct_hemorrhage", ("ct",), None, False), ("lgg_flair", ("mri",), 14, False)],
)
def test_real_manifests(
    real_data: Path, tmp_path: Path, folder: str, modalities: tuple, subjects: int | None, paired: bool
) -> None:
    manifest = Manifest.read(real_data / folder)
    with (real_data / folder / "manifest.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(manifest) == len(rows) > 0
    assert ["" if case.label is None else str(case.label) for case in manifest] == [row["label"] for row in rows]
    assert [case.note for case in manifest] == [row["note"] for row in rows]
    assert (manifest.modalities, manifest.is_paired) == (modalities, paired)
    assert subjects is None or len(manifest.subjects) == subjects
    for case in manifest:
        assert all(path is None or path.is_file() for path in (case.ct, case.mri, case.mask))
    manifest.write_csv(tmp_path / "copy.csv")
    assert Manifest.read(tmp_path / "copy.csv") == manifest


def test_importing_loads_no_heavy_package() -> None:
    code = (
        "import sys, monai_ctmri.data.manifest, monai_ctmri.data.splits, monai_ctmri.data.verification;"
        "print([m for m in ('torch', 'monai', 'PIL', 'nibabel', 'scipy') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
