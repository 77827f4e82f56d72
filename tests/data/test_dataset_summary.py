"""The summary against its schema and against counts made by hand."""

from __future__ import annotations

import csv
import json
import os
from pathlib import Path
from types import SimpleNamespace

import jsonschema
import numpy as np
import pytest

from monai_ctmri.data.checks.inspection import Facts
from monai_ctmri.data.dataset_summary import (
    IMAGE_COLUMNS,
    shown_name,
    summarise,
    summary_schema,
    write_images_table,
)
from monai_ctmri.data.findings import KINDS, Finding
from monai_ctmri.data.intensity import PooledIntensities
from monai_ctmri.data.looking.appearance import Appearance
from monai_ctmri.data.manifest import Case, Manifest
from monai_ctmri.data.trees.folder_tree import folder_tree

LOOK = Appearance("ct", 0.97, True, 0.81234, 0.0, 0.02)


def image(path: Path, **changes) -> Facts:
    entries = {
        "kind": "picture", "bytes": 123, "shape": (4, 6), "dtype": "uint8", "bits": 8, "minimum": 0.0,
        "maximum": 200.0, "mean": 12.5, "std": 3.0, "p1": 0.0, "p99": 190.0, "appearance": LOOK,
    }  # fmt: skip
    return Facts(path, **{**entries, **changes})


@pytest.fixture
def given(tmp_path):
    """Two pairs and one CT alone; one MRI cannot be read."""
    root = tmp_path / "set"
    files = {name: root / f"{name}.png" for name in ("ct1", "ct2", "ct3", "mri1", "mri2")}
    root.mkdir()
    for file in files.values():
        file.write_bytes(b"12")
    cases = [
        Case("one", "p1", ct=files["ct1"], mri=files["mri1"], label=0, split="train"),
        Case("two", "p2", ct=files["ct2"], mri=files["mri2"], label=1, mask=root / "mask.png", split="test"),
        Case("three", "p2", ct=files["ct3"], split="test"),
    ]
    evidence = (SimpleNamespace(claim="result", basis="seen", verdict="paired"),)
    discovery = SimpleNamespace(
        cases=Manifest(cases), layout="names", pairing="paired", evidence=evidence, normal_only=False,
        ignored=((root / "a.txt", "no image"), (root / "b.txt", "no image")), subjects_known=True,
    )  # fmt: skip
    bad = Finding(files["mri2"], "unreadable", "line\nbreak")
    facts = [
        image(files["ct1"]),
        image(files["mri1"], shape=(5, 5), channels=3),
        image(files["ct2"]),
        image(files["mri2"], shape=(), dtype="", bits=0, problem=bad, appearance=None),
        image(files["ct3"], shape=(8, 8)),
    ]
    pool = PooledIntensities()
    pool.add(np.array([0, 100, 200]), np.array([6, 3, 1]), exact=True)
    modalities = {path: name[:-1] for name, path in files.items()}
    findings = [bad, Finding(files["ct1"], "cut_off", "0.2"), Finding(files["ct1"], "resampled", "")]
    pools = {("ct", "grey level"): pool}
    return SimpleNamespace(
        root=root, discovery=discovery, facts=facts, findings=findings, pools=pools, modalities=modalities
    )


def summary_of(given) -> dict:
    tree = folder_tree(given.root)
    return summarise(given.root, given.discovery, given.facts, given.findings, given.pools, tree, given.modalities)


def validator() -> jsonschema.Draft202012Validator:
    return jsonschema.Draft202012Validator(summary_schema())


def test_the_schema_is_a_schema():
    jsonschema.Draft202012Validator.check_schema(summary_schema())
    assert summary_schema()["$schema"] == "https://json-schema.org/draft/2020-12/schema"


def test_the_schema_requires_all_it_names():
    schema = summary_schema()
    assert set(schema["required"]) == set(schema["properties"])


def test_a_summary_is_valid_also_after_json(given):
    summary = summary_of(given)
    validator().validate(summary)
    assert json.loads(json.dumps(summary, allow_nan=False)) == summary


@pytest.mark.parametrize(
    "spoil",
    [
        lambda summary: summary.pop("pairing"),
        lambda summary: summary.update(pairing="perhaps"),
        lambda summary: summary.update(more=1),
        lambda summary: summary["counts"].update(images=-1),
        lambda summary: summary["findings"]["list"][0].pop("severity"),
        lambda summary: summary["intensities"][0].update(share_background=1.5),
        lambda summary: summary["tree"]["folders"].append({"name": "x"}),
    ],
)
def test_the_schema_refuses_what_is_no_summary(given, spoil):
    summary = summary_of(given)
    spoil(summary)
    assert not validator().is_valid(summary)


def test_an_empty_look_is_valid_too(given):
    given.pools, given.findings = {}, []
    given.discovery.subjects_known, given.discovery.normal_only = False, None
    summary = summary_of(given)
    validator().validate(summary)
    assert summary["subjects"] is None
    assert summary["intensities"] == []


def test_every_kind_of_finding_is_valid(given):
    given.findings = [Finding(given.root / "ct1.png", kind) for kind in KINDS]
    summary = summary_of(given)
    validator().validate(summary)
    assert summary["findings"]["total"] == len(KINDS)


def test_counts_are_those_made_by_hand(given):
    summary = summary_of(given)
    assert summary["counts"] == {
        "files": 5, "images": 5, "cases": 3, "pairs": 2, "masks": 1, "by_type": {".png": 5},
        "by_kind": {"picture": 5}, "by_modality": {"ct": 3, "mri": 2, "unknown": 0},
    }  # fmt: skip
    assert summary["labels"] == {"normal": 1, "abnormal": 1, "unknown": 1}
    assert summary["splits"] == {"train": 1, "test": 2}
    assert summary["left_out"] == {"no image": 2}
    assert (summary["subjects_known"], summary["subjects"]) == (True, 2)
    assert summary["normal_only_reason"] == "cases labelled abnormal: 1"
    assert summary["sizes"] == [
        {"shape": [4, 6], "modality": "ct", "images": 2},
        {"shape": [5, 5], "modality": "mri", "images": 1},
        {"shape": [8, 8], "modality": "ct", "images": 1},
    ]
    assert summary["storage"][0] == {
        "kind": "picture", "modality": "ct", "dtype": "uint8", "bits": 8, "channels": 1, "images": 3,
    }  # fmt: skip
    assert summary["findings"]["by_severity"] == {"error": 1, "warning": 1, "info": 1}
    assert (summary["findings"]["total"], summary["findings"]["files"]) == (3, 2)
    assert summary["findings"]["list"][0] == {
        "file": "mri2.png", "kind": "unreadable", "measure": "line break", "severity": "error",
    }  # fmt: skip


def test_the_reason_is_the_one_discovery_gives(given):
    said = SimpleNamespace(claim="normal cases only", basis="documented: no", verdict="no")
    given.discovery.evidence = (said,)
    assert summary_of(given)["normal_only_reason"] == "documented: no"


@pytest.mark.parametrize(
    ("unit", "values", "counts", "limit", "share"),
    [
        # 2 % of the 99th percentile, 200, is 4.
        ("grey level", [0, 3, 4, 5, 200], [50, 5, 5, 5, 35], 4, 0.6),
        ("HU", [-1000, -900, -899, 40], [40, 10, 10, 40], -900, 0.5),
        # Normalised values: only the lowest is surely background.
        ("arbitrary unit", [-1, 0, 2], [30, 40, 30], -1, 0.3),
    ],
)
def test_background(given, unit, values, counts, limit, share):
    pool = PooledIntensities()
    pool.add(np.array(values), np.array(counts), exact=True)
    given.pools = {("ct", unit): pool}
    (group,) = summary_of(given)["intensities"]
    assert group["background"] == limit
    assert group["share_background"] == pytest.approx(share)


def test_a_line_an_image(given, tmp_path):
    write_images_table(tmp_path / "images.csv", given.root, given.facts, given.modalities)
    with open(tmp_path / "images.csv", newline="", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    assert tuple(rows[0]) == IMAGE_COLUMNS
    assert [row["file"] for row in rows] == ["ct1.png", "mri1.png", "ct2.png", "mri2.png", "ct3.png"]
    first, colour, _, broken, _ = rows
    assert (first["modality"], first["shape"], first["bits"], first["bytes"]) == ("ct", "4x6", "8", "123")
    assert (float(first["mean"]), float(first["max"])) == (12.5, 200)
    assert (first["looks_like"], first["brain_level"], first["intracranial_fraction"]) == ("ct", "1", "0.8123")
    assert colour["channels"] == "3"
    assert broken["problem"] == "unreadable"
    assert broken["shape"] == broken["mean"] == broken["ct_likeness"] == ""


def test_what_is_not_known_is_empty_in_the_table(given, tmp_path):
    look = Appearance(None, 0.5, None, float("nan"), 0.0, 0.0)
    facts = [image(given.root / "ct1.png", appearance=look, spacing=(0.5, 0.5, 3.0))]
    write_images_table(tmp_path / "images.csv", given.root, facts, {})
    with open(tmp_path / "images.csv", newline="", encoding="utf-8") as stream:
        (row,) = csv.DictReader(stream)
    assert row["brain_level"] == row["intracranial_fraction"] == row["looks_like"] == row["modality"] == ""
    assert row["spacing"] == "0.5x0.5x3"


def test_names_are_relative_to_the_data_and_always_text(tmp_path):
    assert shown_name(tmp_path / "a" / "b.png", tmp_path) == "a/b.png"
    assert shown_name(tmp_path / "b.png", tmp_path / "a") == "../b.png"
    odd = os.fsdecode(b"caf\xe9.png")
    assert shown_name(tmp_path / odd, tmp_path) == "caf\N{REPLACEMENT CHARACTER}.png"
