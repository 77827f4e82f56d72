"""Exploration of small sets written here, against counts and numpy statistics of what was written."""

from __future__ import annotations

import csv
import json
import os
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from monai_ctmri.data.checks.inspection import Facts
from monai_ctmri.data.exploration import check_apart, explore, images_of, pool_intensities
from monai_ctmri.data.findings import Finding
from monai_ctmri.data.manifest import Case, Manifest
from monai_ctmri.errors import InputError

GENERATOR = np.random.default_rng(11)


def facts(path: str, **changes) -> Facts:
    counts = changes.pop("counts", [10, 20])
    low_high = changes.pop("span", (0.0, 1.0))
    entries = {
        "kind": "picture", "shape": (3, 10), "dtype": "uint8", "bits": 8, "windowed": True, "minimum": 0.0,
        "maximum": 1.0, "mean": 2 / 3, "std": np.sqrt(2) / 3,
    }  # fmt: skip
    return Facts(Path(path), **{**entries, **changes}, histogram=tuple(counts), histogram_range=low_high)


@pytest.fixture
def noise_set(tmp_path):
    """Three CT and two MRI pictures of noise in folders named so, one broken; and the pixels of each modality."""
    pixels: dict[str, list[np.ndarray]] = {"ct": [], "mri": []}
    for modality, number in (("ct", 3), ("mri", 2)):
        for index in range(number):
            plane = GENERATOR.integers(0, 200, (40 + index, 50), dtype=np.uint8)
            file = tmp_path / "set" / modality / f"{modality}-a{index}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(plane).save(file)
            pixels[modality].append(plane.ravel())
    (tmp_path / "set" / "ct" / "ct-broken.png").write_bytes(b"\x89PNG\r\n\x1a\nno more")
    return tmp_path / "set", {modality: np.concatenate(planes) for modality, planes in pixels.items()}


def test_a_set_is_counted_and_its_pixels_are_pooled_exactly(noise_set):
    root, pixels = noise_set
    found = explore(root)
    summary = found.summary
    assert summary["counts"]["files"] == 6
    assert summary["counts"]["images"] == 6
    assert summary["counts"]["by_modality"] == {"ct": 4, "mri": 2, "unknown": 0}
    assert summary["counts"]["by_type"] == {".png": 6}
    groups = {entry["modality"]: entry for entry in summary["intensities"]}
    for modality, values in pixels.items():
        group = groups[modality]
        assert group["images"] == (3 if modality == "ct" else 2)
        assert (group["pixels"], group["exact"], group["unit"]) == (values.size, True, "grey level")
        assert group["mean"] == pytest.approx(values.mean())
        assert group["std"] == pytest.approx(values.std())
        assert group["median"] == np.median(values)
        assert group["percentiles"]["p95"] == pytest.approx(np.percentile(values, 95))
        assert group["share_zero"] == pytest.approx(np.mean(values == 0))


def test_a_broken_file_is_an_error_and_the_others_go_on(noise_set):
    found = explore(noise_set[0])
    broken = [one for one in found.findings if one.file.name == "ct-broken.png"]
    assert broken
    assert broken[0].severity == "error"
    assert found.summary["findings"]["by_severity"]["error"] >= 1
    assert sum(entry["images"] for entry in found.summary["sizes"]) == 5


def test_findings_begin_with_the_gravest(noise_set):
    grades = [one.severity for one in explore(noise_set[0]).findings]
    assert grades == sorted(grades, key=["error", "warning", "info"].index)


def test_no_pixels_are_held(noise_set):
    found = explore(noise_set[0])
    assert all(len(one.histogram) in (0, 256) for one in found.facts)
    assert all(pool.counts()[0].size <= 256 for pool in found.pools.values())


def test_processes_find_what_one_process_finds(noise_set):
    alone, together = explore(noise_set[0]), explore(noise_set[0], workers=2)
    for summary in (alone.summary, together.summary):
        summary.pop("created")
    assert alone.summary == together.summary


def test_progress_reaches_its_end_in_every_stage(noise_set):
    stages: dict[str, tuple[int, int]] = {}
    explore(noise_set[0], progress=lambda stage, done, total: stages.update({stage: (done, total)}))
    assert stages["Examining images"] == (6, 6)
    assert all(done == total for done, total in stages.values())


def test_a_manifest_may_take_the_place_of_a_folder(noise_set, tmp_path):
    root, _ = noise_set
    files = sorted((root / "ct").glob("ct-a*.png"))
    Manifest(Case(file.stem, "one", ct=file) for file in files).write_csv(root / "list.csv")
    found = explore(root / "list.csv")
    assert found.root == root
    assert found.summary["pairing"] == "single"
    assert found.summary["counts"]["images"] == 3
    assert (found.summary["subjects_known"], found.summary["subjects"]) == (True, 1)


def test_options_reach_those_who_need_them(monkeypatch, tmp_path):
    given: dict = {}
    case = Case("x", "s", ct=tmp_path / "x.png")

    def discover(root, **options):
        given.update(options)
        return SimpleNamespace(
            cases=Manifest([case]),
            layout="names",
            pairing="single",
            evidence=(),
            ignored=(),
            normal_only=None,
            subjects_known=False,
            stand_ins=frozenset({"s"}),
        )

    def inspect(items, workers, progress, *, allow_resample):
        given.update(items=items, workers=workers, allow_resample=allow_resample)
        return [facts(str(tmp_path / "x.png"))]

    monkeypatch.setattr("monai_ctmri.data.discovery.discover", discover)
    monkeypatch.setattr("monai_ctmri.data.checks.inspection.inspect_files", inspect)
    monkeypatch.setattr("monai_ctmri.data.quality.find_problems", lambda facts, items, subjects: [])
    monkeypatch.setattr("monai_ctmri.data.quality.find_pair_problems", lambda manifest, facts: [])
    found = explore(tmp_path, workers=3, allow_resample=True, a_is="mri")
    assert (given["a_is"], given["workers"], given["allow_resample"]) == ("mri", 3, True)
    assert given["items"] == [(tmp_path / "x.png", "ct")]
    assert found.summary["normal_only_reason"] == "nothing says whether the images are normal"
    assert found.summary["subjects"] is None


def test_bad_input_is_one_line(tmp_path):
    with pytest.raises(InputError, match=r"nowhere"):
        explore(tmp_path / "nowhere")
    with pytest.raises(InputError, match="image"):
        explore(tmp_path)
    with pytest.raises(InputError, match="ct or mri"):
        explore(tmp_path, a_is="pet")


def test_each_file_once_with_its_modality(tmp_path):
    a, b, c = (tmp_path / name for name in "abc")
    cases = [Case("1", "s", ct=a, mri=b), Case("2", "s", ct=a, mri=c), Case("3", "s", mri=c)]
    assert images_of(Manifest(cases)) == {a: "ct", b: "mri", c: "mri"}


def test_values_of_different_units_are_never_pooled():
    given = [
        facts("a.png", span=(0.0, 255.0), counts=[1] * 256),
        facts("b.png", span=(0.0, 65535.0), dtype="uint16", bits=16),
        facts("c.nii", span=(-1000.0, 1000.0), dtype="int16", bits=16, windowed=False, kind="volume"),
        facts("d.nii", span=(0.0, 900.0), dtype="float32", bits=32, windowed=False, kind="volume"),
        Facts(Path("e.png"), "picture"),
        facts("f.nii", span=(0.0, 3000.0), dtype="uint8", windowed=False, kind="volume",
              findings=(Finding(Path("f.nii"), "implausible_hu"),)),
        facts("g.nii", span=(0.0, 255.0), counts=[1] * 256, kind="volume"),
    ]  # fmt: skip
    modalities = {Path(name): "ct" for name in ("a.png", "b.png", "c.nii", "e.png", "f.nii")}
    modalities |= {Path("d.nii"): "mri", Path("g.nii"): "mri"}
    pools = pool_intensities(given, modalities)
    assert set(pools) == {
        ("ct", "grey level"), ("ct", "grey value, uint16"), ("ct", "HU"), ("mri", "arbitrary unit"),
        ("ct", "not HU"), ("mri", "grey level"),
    }  # fmt: skip
    assert pools[("ct", "grey level")].exact
    assert not pools[("ct", "HU")].exact
    # An 8-bit volume is counted in bins, too: the centre of the first of 256 from 0 to 255.
    assert not pools[("mri", "grey level")].exact
    assert pools[("mri", "grey level")].counts()[0][0] == pytest.approx(255 / 512)
    # Two bins from -1000 to 1000: their centres are -500 and 500.
    assert pools[("ct", "HU")].counts()[0].tolist() == [-500.0, 500.0]


def test_output_beside_the_data_is_fine_and_inside_is_refused(tmp_path):
    data = tmp_path / "data"
    data.mkdir()
    check_apart(data, tmp_path / "out")
    check_apart(data, tmp_path / "data2")
    check_apart(data / "manifest.csv", data / "out")
    for bad in (data, data / "explored", tmp_path / "data" / ".." / "data" / "x"):
        with pytest.raises(InputError, match="outside"):
            check_apart(data, bad)
    if hasattr(os, "symlink"):
        os.symlink(data, tmp_path / "link")
        with pytest.raises(InputError, match="outside"):
            check_apart(data, tmp_path / "link" / "out")


def test_the_public_unpaired_set_is_seen_as_it_is(real_data, tmp_path):
    """A part of it: 24 files a folder, and with them every MRI file that was labelled a CT slice by eye."""
    source = real_data / "kaggle_sample" / "Dataset" / "images"
    with open(real_data / "kaggle_sample" / "mri_inferred_labels.csv", newline="") as stream:
        strays = {row["file"] for row in csv.DictReader(stream) if row["looks_like_ct"] == "1"}
    for name, suffix in (("trainA", ".png"), ("trainB", ".jpg")):
        (tmp_path / "set" / name).mkdir(parents=True)
        files = sorted((source / name).glob(f"*{suffix}"))
        for file in [*files[:24], *(file for file in files[24:] if file.name in strays)]:
            (tmp_path / "set" / name / file.name).write_bytes(file.read_bytes())
    found = explore(tmp_path / "set")
    summary = found.summary
    json.dumps(summary, allow_nan=False)
    assert summary["pairing"] == "unpaired"
    assert summary["counts"]["pairs"] == 0
    assert summary["counts"]["by_modality"]["ct"] == 24
    assert summary["subjects_known"] is False
    assert summary["normal_only"] is not True
    assert summary["intensities"][0]["exact"] is True
    wrong = {one.file.name for one in found.findings if one.kind == "wrong_modality"}
    present = strays & {file.name for file in (tmp_path / "set" / "trainB").iterdir()}
    assert present
    assert len(wrong & present) >= len(present) / 2
    assert len(wrong - strays) <= 1
