"""A configuration's data set: read, divided by subject, guarded; or the phantom, drawn once."""

from __future__ import annotations

import csv
import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from monai.data import list_data_collate
from PIL import Image

from monai_ctmri.data import dataset
from monai_ctmri.data.dataset import UNKNOWN_LABEL, datalist, load_dataset
from monai_ctmri.data.phantom import LEVELS_MM
from monai_ctmri.errors import InputError


def write(folder: Path, rows: list[dict[str, object]]) -> Path:
    """Write a manifest; each named picture is made, no two alike."""
    folder.mkdir(parents=True, exist_ok=True)
    generator = np.random.default_rng(0)
    for row in rows:
        for key in ("ct", "mri"):
            if row.get(key):
                pixels = generator.integers(0, 256, (8, 8), dtype=np.uint8)
                Image.fromarray(pixels).save(folder / str(row[key]))
    with (folder / "manifest.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, ["ct", "mri", "subject", "label", "split", "note"])
        writer.writeheader()
        writer.writerows(rows)
    return folder / "manifest.csv"


def cohort(subjects: int, abnormal: int = 0, label: object = 0) -> list[dict[str, object]]:
    return [
        {"ct": f"{s}_{k}c.png", "mri": f"{s}_{k}m.png", "subject": f"s{s}", "label": 1 if s < abnormal else label}
        for s in range(subjects)
        for k in range(2)
    ]


@pytest.mark.parametrize("name", ["folder", "file"])
def test_divided_by_subject_with_the_abnormal_in_the_test_part(name: str, tmp_path: Path) -> None:
    file = write(tmp_path, cohort(12, abnormal=2))
    manifest = load_dataset(tmp_path if name == "folder" else file, tmp_path / "cache")
    parts = {part: manifest.select(split=part) for part in ("train", "validation", "calibration", "test")}
    assert all(len(part) for part in parts.values())
    assert sum(len(part) for part in parts.values()) == 24
    assert len({subject for part in parts.values() for subject in part.subjects}) == 12
    assert sum(len(part.subjects) for part in parts.values()) == 12
    assert {"s0", "s1"} <= set(parts["test"].subjects)
    assert not (tmp_path / "cache").exists()


def test_other_fractions_on_request(tmp_path: Path) -> None:
    write(tmp_path, cohort(20))
    manifest = load_dataset(tmp_path, tmp_path, fractions={"train": 0.7, "validation": 0.15, "test": 0.15})
    counts = {
        part: len(manifest.select(split=part).subjects) for part in ("train", "validation", "calibration", "test")
    }
    assert counts == {"train": 14, "validation": 3, "calibration": 0, "test": 3}


def test_seed_decides_the_division(tmp_path: Path) -> None:
    write(tmp_path, cohort(12))
    first, same, other = (load_dataset(tmp_path, tmp_path, seed=seed) for seed in (0, 0, 1))
    assert [case.split for case in first] == [case.split for case in same]
    assert [case.split for case in first] != [case.split for case in other]


def test_given_splits_are_kept(tmp_path: Path) -> None:
    rows = [row | {"split": "train" if row["subject"] != "s2" else "test"} for row in cohort(3)]
    write(tmp_path, rows)
    assert [case.split for case in load_dataset(tmp_path, tmp_path)] == [row["split"] for row in rows]


def test_partly_divided_warns(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write(tmp_path, [row | {"split": "train" if row["subject"] == "s0" else ""} for row in cohort(3)])
    with caplog.at_level(logging.WARNING):
        load_dataset(tmp_path, tmp_path)
    assert "4 cases have no split and take no part" in caplog.text


@pytest.mark.parametrize("part", ["train", "validation", "calibration"])
def test_abnormal_outside_the_test_part_is_refused(part: str, tmp_path: Path) -> None:
    write(tmp_path, [row | {"split": part if row["subject"] == "s0" else "test"} for row in cohort(3, abnormal=1)])
    with pytest.raises(InputError, match=rf"manifest.csv|is in the {part} part"):
        load_dataset(tmp_path, tmp_path)


def test_leak_is_refused(tmp_path: Path) -> None:
    rows = cohort(2)
    write(tmp_path, [row | {"split": ["train", "test"][index % 2]} for index, row in enumerate(rows)])
    with pytest.raises(InputError, match=r"subject 's0'.*in both train"):
        load_dataset(tmp_path, tmp_path)


def test_without_labels(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write(tmp_path, cohort(8, label=""))
    with pytest.raises(InputError, match=r"no case has a label"):
        load_dataset(tmp_path, tmp_path, assume_normal=False)
    assert load_dataset(tmp_path, tmp_path, assume_normal=True).select(split="train")
    assert not caplog.records
    assert load_dataset(tmp_path, tmp_path) == load_dataset(tmp_path, tmp_path, assume_normal=True)
    assert "no case has a label; all are taken as normal, which nobody checked" in caplog.text
    undivided = load_dataset(tmp_path, tmp_path, divide=False)
    assert {case.split for case in undivided} == {None}


@pytest.mark.parametrize("divide", [True, False])
def test_quarantined_cases_take_no_part(tmp_path: Path, divide: bool, caplog: pytest.LogCaptureFixture) -> None:
    rows = cohort(8)
    rows[0] |= {"note": "quarantined: wrong_modality; T2"}
    write(tmp_path, rows)
    found = load_dataset(tmp_path, tmp_path, divide=divide)
    assert len(found) == len(rows) - 1
    assert not any(case.note for case in found)
    assert f"1 of {len(rows)} cases are quarantined" in caplog.text


def test_an_unpaired_set_says_which_modality_can_be_taken(tmp_path: Path) -> None:
    rows = [row | ({"mri": ""} if number % 2 else {"ct": ""}) for number, row in enumerate(cohort(8))]
    write(tmp_path, rows)
    manifest = load_dataset(tmp_path, tmp_path)
    with pytest.raises(InputError, match=r"no case has ct and mri; the set is unpaired: .* modalities=\['ct'\]"):
        datalist(manifest, "train")
    assert datalist(manifest, "train", ["mri"])


def test_few_subjects_train_all_the_same(tmp_path: Path) -> None:
    write(tmp_path, cohort(2))
    assert len(load_dataset(tmp_path, tmp_path).select(split="train")) == 2


def test_phantom_where_no_data_is_named(tmp_path: Path) -> None:
    manifest = load_dataset(None, tmp_path, seed=3, phantom_subjects=2, image_size=16)
    assert len(manifest.subjects) == 2
    files = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.png")}
    assert files
    again = load_dataset(None, tmp_path, seed=3, phantom_subjects=2, image_size=16)
    assert [case.name for case in again] == [case.name for case in manifest]
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.png")} == files
    with Image.open(next(iter(files))) as picture:
        assert picture.size == (16, 16)


def test_another_phantom_has_its_own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Path] = []

    def fake(out: Path, **settings: object) -> Path:
        asked.append(out)
        return write(out, cohort(6))

    monkeypatch.setattr(dataset, "write_phantom", fake)
    for settings in ({}, {"seed": 1}, {"phantom_subjects": 9}, {"image_size": 64}):
        load_dataset(None, tmp_path, **settings)  # type: ignore[arg-type]
    for settings in ({"phantom_contrast": "mixed"}, {"phantom_contrast": "T1"}, {"phantom_form": "volumes"}):
        load_dataset(None, tmp_path, **settings)  # type: ignore[arg-type]
    load_dataset(None, tmp_path, phantom_levels="head")
    assert len(set(asked)) == 8


def test_levels_of_the_phantom_are_named_and_slices_lie_as_close(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: dict[str, int] = {}

    def fake(out: Path, **settings: Any) -> Path:
        asked[settings["levels"]] = settings["slices"]
        return write(out, cohort(6))

    monkeypatch.setattr(dataset, "write_phantom", fake)
    for levels in LEVELS_MM:
        load_dataset(None, tmp_path, phantom_levels=levels)
    apart = {levels: (LEVELS_MM[levels][1] - LEVELS_MM[levels][0]) / (asked[levels] - 1) for levels in LEVELS_MM}
    assert apart["head"] == pytest.approx(apart["brain"], rel=0.1)
    with pytest.raises(InputError, match=r"^phantom_levels: 'neck' is unknown; use brain or head$"):
        load_dataset(None, tmp_path, phantom_levels="neck")


def test_datalist_collates_and_knows_what_is_unknown(tmp_path: Path) -> None:
    write(tmp_path, cohort(2, abnormal=1))
    items = datalist(load_dataset(tmp_path, tmp_path, divide=False))
    assert [set(item) for item in items] == [{"case", "subject", "label", "ct", "mri"}] * 4
    assert list_data_collate(items)["label"].tolist() == [1, 1, 0, 0]
    write(tmp_path / "unlabelled", cohort(1, label=""))
    unlabelled = datalist(load_dataset(tmp_path / "unlabelled", tmp_path, divide=False))
    assert [item["label"] for item in unlabelled] == [UNKNOWN_LABEL, UNKNOWN_LABEL]


def test_cases_without_a_modality_are_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    rows = cohort(2)
    rows[0]["mri"] = ""
    write(tmp_path, rows)
    manifest = load_dataset(tmp_path, tmp_path, divide=False)
    with caplog.at_level(logging.WARNING):
        assert len(datalist(manifest)) == 3
    assert "1 of 4 cases lack ct and mri" in caplog.text
    ct = datalist(manifest, modalities=["ct"])
    assert len(ct) == 4
    assert all("mri" not in item for item in ct)


def test_empty_part(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write(tmp_path, [row | {"split": "train"} for row in cohort(2)])
    manifest = load_dataset(tmp_path, tmp_path)
    with pytest.raises(InputError, match="the validation part: no case has ct and mri"):
        datalist(manifest, "validation")
    with caplog.at_level(logging.WARNING):
        assert datalist(manifest, "validation", fallback="train") == datalist(manifest, "train")
    assert "the validation part is empty; taking the train part instead" in caplog.text


@pytest.mark.parametrize(("modalities", "message"), [(["pet"], "'pet': unknown"), ([], "modalities: empty")])
def test_bad_modalities(modalities: list[str], message: str, tmp_path: Path) -> None:
    write(tmp_path, cohort(1))
    with pytest.raises(InputError, match=message):
        datalist(load_dataset(tmp_path, tmp_path, divide=False), None, modalities)


@pytest.mark.parametrize("name", ["absent", "absent.csv"])
def test_no_manifest(name: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="absent"):
        load_dataset(tmp_path / name, tmp_path)


def test_text_is_no_truth_value(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="assume_normal: 'false' is no truth value"):
        load_dataset(tmp_path, tmp_path, assume_normal="false")  # type: ignore[arg-type]


@pytest.mark.parametrize(("form", "suffix"), [("slices", ".png"), ("volumes", ".nii.gz")])
def test_phantom_of_another_form_and_contrast(form: str, suffix: str, tmp_path: Path) -> None:
    manifest = load_dataset(
        None, tmp_path, phantom_subjects=2, image_size=16, phantom_contrast="T1", phantom_form=form, divide=False
    )
    assert all(str(case.mri).endswith(suffix) for case in manifest)
    (description,) = tmp_path.rglob("phantom.json")
    settings = json.loads(description.read_text())["settings"]
    assert (settings["contrast"], settings["form"]) == ("T1", form)


def test_an_unknown_phantom_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="'T9' is unknown"):
        load_dataset(None, tmp_path, phantom_contrast="T9")


@pytest.mark.parametrize("modalities", [["ct", "mri"], ["mri", "ct"]])
def test_cases_with_any_modality_on_request(
    modalities: list[str], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    rows = cohort(2)
    rows[0]["mri"], rows[1]["ct"] = "", ""
    write(tmp_path, rows)
    manifest = load_dataset(tmp_path, tmp_path, divide=False)
    caplog.clear()
    items = datalist(manifest, None, modalities, require="any")
    assert [{"ct", "mri"} & set(item) for item in items] == [{"ct"}, {"mri"}, {"ct", "mri"}, {"ct", "mri"}]
    assert all(item[name] for item in items for name in ("ct", "mri") if name in item)
    assert not caplog.records
    assert len(datalist(manifest, None, ["ct"], require="any")) == 3
    assert "1 of 4 cases lack ct and" in caplog.text


def test_any_modality_holds_for_the_fallback_too(tmp_path: Path) -> None:
    rows = [row | {"split": "train", "mri": ""} for row in cohort(2)]
    write(tmp_path, rows)
    manifest = load_dataset(tmp_path, tmp_path)
    assert len(datalist(manifest, "validation", fallback="train", require="any")) == 4
    with pytest.raises(InputError, match="the test part: no case has ct or mri"):
        datalist(manifest, "test", require="any")
    with pytest.raises(InputError, match="require: got 'some'; use all or any"):
        datalist(manifest, "train", require="some")
