from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from monai_ctmri.data.findings import read_findings
from monai_ctmri.data.manifest import Case, Manifest
from monai_ctmri.data.phantom import is_phantom, write_phantom
from monai_ctmri.data.preparation import pairing_of, prepare
from monai_ctmri.data.quarantine import is_quarantined
from monai_ctmri.data.verification import verify_files
from monai_ctmri.errors import InputError


@pytest.fixture
def folder(phantom_manifest: Path, tmp_path: Path) -> Path:
    """Phantom slices in ``ct/`` and ``mri/``, without a manifest: 27 pairs of equal names."""
    root = tmp_path / "data"
    for name in ("ct", "mri"):
        shutil.copytree(phantom_manifest.parent / name, root / name)
    return root


def contents(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


def test_a_folder_of_pairs_becomes_a_manifest_that_everything_takes(folder, tmp_path):
    before = contents(folder)
    prepared = prepare(folder, tmp_path / "out" / "manifest.csv")
    assert prepared.pairing == "paired"
    assert Manifest.read(tmp_path / "out" / "manifest.csv") == prepared.manifest
    assert len(prepared.manifest) == 27
    assert prepared.manifest.is_paired
    for case in prepared.manifest:
        assert case.ct.name == case.mri.name
    verify_files(prepared.manifest)
    assert contents(folder) == before


def test_what_is_written_beside_it(folder, tmp_path):
    prepared = prepare(folder, tmp_path / "out" / "set.csv")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "findings.csv", "preparation.json", "set.csv",
    ]  # fmt: skip
    assert tuple(read_findings(tmp_path / "out" / "findings.csv")) == prepared.findings
    content = json.loads((tmp_path / "out" / "preparation.json").read_text())
    assert (content["pairing"], content["ct"], content["mri"]) == ("paired", 27, 27)
    assert content["evidence"]
    assert {"claim", "basis", "verdict"} == set(content["evidence"][0])


def test_a_bad_file_is_kept_apart_and_nothing_is_deleted(folder, tmp_path):
    victims = sorted((folder / "mri").iterdir())[:3]
    victims[0].write_bytes(victims[0].read_bytes()[:200])
    Image.fromarray(np.full((64, 64), 7, np.uint8)).save(victims[1])
    shutil.copy(sorted((folder / "mri").iterdir())[5], victims[2])
    prepared = prepare(folder, tmp_path / "manifest.csv")
    apart = {case.mri.name: case.note for case in prepared.quarantined}
    assert set(apart) == {victims[0].name, victims[1].name, sorted((folder / "mri").iterdir())[5].name}
    assert "truncated" in apart[victims[0].name]
    assert "constant" in apart[victims[1].name]
    assert all(path.exists() for path in victims)
    assert prepared.as_dict()["quarantined"] == 3
    assert len(prepared.manifest) == 27


def test_the_rule_decides_what_is_kept_apart(folder, tmp_path):
    sorted((folder / "mri").iterdir())[0].write_bytes(b"")
    assert not prepare(folder, tmp_path / "a.csv", rule=("none",)).quarantined
    assert len(prepare(folder, tmp_path / "b.csv", rule=("truncated", "unreadable")).quarantined) == 1


@pytest.mark.parametrize(
    ("out", "rule", "message"),
    [("manifest.json", ("error",), "not a name for a manifest"), ("m.csv", ("bad",), "neither a severity nor a kind")],
)
def test_what_is_asked_for_wrongly_is_refused_before_any_work(folder, tmp_path, out, rule, message):
    with pytest.raises(InputError, match=message):
        prepare(folder, tmp_path / "out" / out, rule=rule)
    assert not (tmp_path / "out").exists()


def test_a_folder_that_does_not_exist_is_named(tmp_path):
    with pytest.raises(InputError, match="nothing: no such folder"):
        prepare(tmp_path / "nothing", tmp_path / "m.csv")


def test_the_authors_manifest_is_never_overwritten(folder, tmp_path):
    prepare(folder, folder / "manifest.csv")
    text = (folder / "manifest.csv").read_bytes()
    with pytest.raises(InputError, match="is the manifest that would be read"):
        prepare(folder, folder / "manifest.csv")
    assert (folder / "manifest.csv").read_bytes() == text
    again = prepare(folder, folder / "manifest.csv", use_manifest=False)
    assert len(again.manifest) == 27


def test_preparing_a_manifest_keeps_what_it_states(folder, tmp_path):
    first = prepare(folder, folder / "manifest.csv").manifest
    stated = first.with_cases(Case(c.name, "anna", ct=c.ct, mri=c.mri, label=1, note="T2") for c in first[:4])
    stated.write_csv(folder / "manifest.csv")
    prepared = prepare(folder, tmp_path / "other.csv")
    assert [(c.subject, c.label, c.note) for c in prepared.manifest] == [("anna", 1, "T2")] * 4
    assert prepared.subjects_known
    assert prepared.normal_only is False


def test_look_alikes_share_a_pseudo_subject(tmp_path, phantom_manifest):
    root = tmp_path / "ct_scans"
    for case in Manifest.read(phantom_manifest):
        (root / "ct").mkdir(parents=True, exist_ok=True)
        shutil.copy(case.ct, root / "ct")
    first = sorted((root / "ct").iterdir())[0]
    Image.open(first).resize((96, 96)).save(root / "ct" / "zz_copy.png")
    prepared = prepare(root, tmp_path / "m.csv")
    subjects = {case.ct.name: case.subject for case in prepared.manifest}
    if not prepared.subjects_known:
        assert subjects["zz_copy.png"] == subjects[first.name]
        assert prepared.warnings
    assert any(one.kind == "near_duplicate" and one.file.name == "zz_copy.png" for one in prepared.findings)


def test_volumes_are_cut_beside_the_manifest_and_a_second_run_gives_the_same(tmp_path):
    root = tmp_path / "data"
    write_phantom(root, 2, size=48, slices=12, form="volumes")
    (root / "manifest.csv").unlink()
    shutil.rmtree(root / "tissue")
    (root / "phantom.json").unlink()
    for name in ("ct", "mri"):
        for path in (root / name).iterdir():
            (root / path.name[:-7]).mkdir(exist_ok=True)
            path.rename(root / path.name[:-7] / {"ct": "ct.nii.gz", "mri": "mr.nii.gz"}[name])
        (root / name).rmdir()
    one = prepare(root, root / "manifest.csv")
    assert one.pairing == "paired"
    assert len(one.manifest.subjects) == 2
    assert all((root / "manifest_slices") in case.ct.parents for case in one.manifest)
    files = contents(root / "manifest_slices")
    two = prepare(root, root / "manifest.csv", use_manifest=False)
    assert two.manifest == one.manifest
    assert set(contents(root / "manifest_slices")) == set(files)
    with (root / "manifest_slices" / "slices.csv").open(newline="") as stream:
        assert len(list(csv.DictReader(stream))) == 2 * len(one.manifest)


def test_a_mask_that_does_not_fit_is_a_finding(folder, tmp_path):
    manifest = prepare(folder, folder / "manifest.csv").manifest
    Image.fromarray(np.zeros((10, 10), np.uint8)).save(folder / "small.png")
    (folder / "broken.png").write_bytes(b"\x89PNG")
    masks = [folder / "small.png", folder / "broken.png"]
    cases = [Case(c.name, c.subject, ct=c.ct, mri=c.mri, mask=m) for c, m in zip(manifest[:2], masks, strict=True)]
    manifest.with_cases(cases).write_csv(folder / "manifest.csv")
    prepared = prepare(folder, tmp_path / "m.csv")
    found = {one.file.name: one.kind for one in prepared.findings if one.file in masks}
    assert found == {"small.png": "size_mismatch", "broken.png": "truncated"}
    assert len(prepared.quarantined) == 2


def test_a_phantom_stays_called_one(phantom_manifest, folder, tmp_path):
    prepare(phantom_manifest, tmp_path / "a" / "m.csv")
    prepare(folder, tmp_path / "b" / "m.csv")
    assert is_phantom(tmp_path / "a")
    assert not is_phantom(tmp_path / "b")


def test_stages_come_to_their_end(folder, tmp_path):
    steps: dict[str, tuple[int, int]] = {}
    prepare(folder, tmp_path / "m.csv", progress=lambda stage, done, total: steps.update({stage: (done, total)}))
    assert "Checking images" in steps
    assert all(done == total for done, total in steps.values())


def test_pairing_is_judged_by_what_can_be_used():
    pair = Case("p", "s", ct=Path("/c"), mri=Path("/m"))
    alone = Case("a", "s", ct=Path("/d"))
    apart = Case("q", "s", ct=Path("/e"), note="quarantined: blank")
    assert pairing_of(Manifest([pair])) == "paired"
    assert pairing_of(Manifest([pair, apart])) == "paired"
    assert pairing_of(Manifest([pair, alone])) == "unpaired"
    assert pairing_of(Manifest([alone, apart])) == "single"
    assert pairing_of(Manifest([alone, Case("m", "s", mri=Path("/m"), note="quarantined: blank")])) == "unpaired"


CT_AMONG_MRI = {"mri1829.jpg", "mri370.jpg", "mri2479.jpg"}
"""Named by the set's own table; mri688, mri1339 and mri2219 are CT, too, to the eye."""


def test_the_kaggle_sample_is_what_it_is(real_data, tmp_path):
    prepared = prepare(real_data / "kaggle_sample", tmp_path / "manifest.csv")
    counts = prepared.as_dict()
    assert (counts["pairing"], counts["ct"], counts["mri"]) == ("unpaired", 220, 220)
    assert prepared.normal_only is False
    assert not prepared.subjects_known
    wrong = {one.file.name for one in prepared.findings if one.kind == "wrong_modality"}
    assert wrong == CT_AMONG_MRI | {"mri688.jpg", "mri1339.jpg", "mri2219.jpg"}
    assert {case.mri.name for case in prepared.quarantined if case.mri} >= wrong
    assert not any(case.ct for case in prepared.quarantined)
    assert all(case.split is None for case in prepared.manifest)


@pytest.mark.parametrize(
    ("name", "pairing", "ct", "mri", "subjects"),
    [("pairs", "paired", 76, 76, 4), ("lgg_flair", "single", 0, 404, 14), ("ct_hemorrhage", "single", 100, 0, 100)],
)
def test_the_other_picture_sets_are_what_their_authors_say(real_data, tmp_path, name, pairing, ct, mri, subjects):
    prepared = prepare(real_data / name, tmp_path / "manifest.csv")
    counts = prepared.as_dict()
    assert (counts["pairing"], counts["ct"], counts["mri"], counts["subjects"]) == (pairing, ct, mri, subjects)
    assert not prepared.quarantined
    truth = Manifest.read(real_data / name)
    assert [(c.label, c.subject) for c in prepared.manifest] == [(c.label, c.subject) for c in truth]


def test_pairs_are_found_again_without_their_manifest(real_data, tmp_path):
    prepared = prepare(real_data / "pairs", tmp_path / "manifest.csv", use_manifest=False)
    truth = {(case.ct, case.mri) for case in Manifest.read(real_data / "pairs")}
    assert {(case.ct, case.mri) for case in prepared.manifest} == truth


def test_real_volumes_become_slices(real_data, tmp_path):
    prepared = prepare(real_data / "volumes", tmp_path / "manifest.csv", every_mm=10.0)
    assert prepared.pairing == "unpaired"
    (apart,) = prepared.quarantined
    assert apart.ct.name == "ct_template_scct.nii.gz"
    assert "implausible_hu" in apart.note
    stroke = [case for case in prepared.manifest if case.mri and "stroke" in case.mri.name]
    assert {case.label for case in stroke} == {0, 1}
    assert all(case.mask for case in stroke)
    glioma = {case.note for case in prepared.manifest if "6692" in case.subject}
    assert {note.partition(";")[0] for note in glioma} >= {"T1", "T2", "FLAIR"}
    used = prepared.manifest.with_cases(case for case in prepared.manifest if not is_quarantined(case))
    verify_files(used)
