from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from PIL import Image
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import cross_val_predict

from monai_ctmri.data.manifest import Manifest
from monai_ctmri.data.phantom import write_phantom
from monai_ctmri.data.preparation import prepare
from monai_ctmri.data.verification import verify_files
from monai_ctmri.errors import InputError
from monai_ctmri.evaluation.lesion_twins import TWIN_COLUMNS, write_twins
from monai_ctmri.transforms.lesion_suite import SUITE

FAST = ("hemorrhage", "infarct", "tumour", "acute_collection", "calcification")


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as stream:
        return list(csv.DictReader(stream))


def pixels(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path), dtype=float)


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> Path:
    """Six phantom subjects of four slices."""
    return write_phantom(tmp_path_factory.mktemp("source"), 6, size=96, slices=4)


@pytest.fixture(scope="module")
def everything(source, tmp_path_factory) -> Path:
    """Every kind once, on the slices of two subjects."""
    folder = tmp_path_factory.mktemp("everything")
    manifest = Manifest.read(source)
    kept = [case for case in manifest if case.subject in manifest.subjects[:2]]
    Manifest(kept).write_csv(folder / "m.csv")
    return write_twins(folder / "m.csv", folder / "twins")


@pytest.fixture(scope="module")
def two_hundred(source, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("many")
    return write_twins(source, folder / "twins", kinds=FAST, sizes=("small", "large"))


def test_every_kind_is_there_with_its_facts(everything):
    rows = rows_of(everything)
    assert tuple(rows[0]) == TWIN_COLUMNS
    twins = [row for row in rows if row["original"]]
    assert {row["kind"] for row in twins} == set(SUITE)
    for row in twins:
        assert (row["family"], row["label"], row["split"], row["size"]) == ("B", "1", "test", "medium")
        assert float(row["size_mm"]) > 0
        assert float(row["contrast_to_noise"]) > 0
        assert row["original"] in {one["case"] for one in rows if not one["original"]}
        assert row["case"] == f"{row['original']}__{row['kind']}_medium"


def test_it_is_a_manifest_that_benchmarks_take(everything):
    manifest = Manifest.read(everything)
    assert {case.label for case in manifest} == {0, 1}
    assert {case.split for case in manifest} == {"test"}
    assert set(verify_files(manifest).values()) == {(96, 96)}


def test_outside_the_mask_nothing_changes_but_for_warps_and_artefacts(two_hundred):
    from scipy import ndimage

    rows = rows_of(two_hundred)
    folder = two_hundred.parent
    originals = {row["case"]: row for row in rows}
    checked = 0
    for row in rows:
        if row["kind"] not in ("hemorrhage", "infarct", "calcification"):
            continue
        away = ~ndimage.binary_dilation(pixels(folder / row["mask"]) > 127, iterations=3)
        for modality in ("ct", "mri"):
            before = pixels(folder / originals[row["original"]][modality])
            after = pixels(folder / row[modality])
            np.testing.assert_array_equal(after[away], before[away])
            checked += 1
    assert checked > 100


def test_contrast_zero_changes_no_pixel(source, tmp_path):
    path = write_twins(source, tmp_path / "t", kinds=FAST, contrast=0.0)
    rows = rows_of(path)
    originals = {row["case"]: row for row in rows}
    twins = [row for row in rows if row["original"]]
    assert twins
    for row in twins:
        assert pixels(path.parent / row["mask"]).any()
        for modality in ("ct", "mri"):
            before = pixels(path.parent / originals[row["original"]][modality])
            np.testing.assert_array_equal(pixels(path.parent / row[modality]), before)


def features_of_border(image: np.ndarray, mask: np.ndarray) -> list[float]:
    """What a seam would show, just outside the lesion's soft edge: roughness there beside that farther out."""
    from scipy import ndimage

    far = ndimage.distance_transform_edt(~mask)
    rough = np.abs(ndimage.laplace(image))
    near, beyond = (far > 3) & (far <= 5), (far > 5) & (far <= 9)
    return [float(rough[near].mean()), float(rough[near].mean() / max(rough[beyond].mean(), 1e-6))]


def test_neither_area_nor_border_alone_tells_twins_from_originals(two_hundred):
    """200 twins without displacement beside their originals, seen at the same place."""
    rows = rows_of(two_hundred)
    folder = two_hundred.parent
    originals = {row["case"]: row for row in rows}
    twins = [row for row in rows if row["original"]][:200]
    assert len(twins) == 200
    border, area, labels = [], [], []
    for row in twins:
        mask = pixels(folder / row["mask"]) > 127
        for label, one in ((0, originals[row["original"]]), (1, row)):
            images = [pixels(folder / one[modality]) for modality in ("ct", "mri")]
            border.append([value for image in images for value in features_of_border(image, mask)])
            area.append([float(mask.sum()), float((images[0] > 12).sum())])
            labels.append(label)
    for features in (border, area):
        values = np.array(features)
        scaled = (values - values.mean(axis=0)) / values.std(axis=0)
        scores = cross_val_predict(LogisticRegression(), scaled, labels, cv=5, method="predict_proba")[:, 1]
        assert roc_auc_score(labels, scores) < 0.6


def test_the_same_seed_gives_the_same_files_in_any_order(source, tmp_path):
    manifest = Manifest.read(source)
    some = [case for case in manifest if case.subject in manifest.subjects[:3]]
    Manifest(some).write_csv(tmp_path / "a.csv")
    Manifest(some[::-1]).write_csv(tmp_path / "b.csv")
    kinds = ["hemorrhage", "wrong_slice", "wrong_pair"]
    one = write_twins(tmp_path / "a.csv", tmp_path / "one", kinds=kinds, seed=3)
    two = write_twins(tmp_path / "b.csv", tmp_path / "two", kinds=kinds, seed=3)
    other = write_twins(tmp_path / "a.csv", tmp_path / "other", kinds=kinds, seed=4)
    for kind in kinds:
        files = sorted((one.parent / f"{kind}_medium").iterdir())
        assert files
        assert all((two.parent / f"{kind}_medium" / file.name).read_bytes() == file.read_bytes() for file in files)
    files = sorted((one.parent / "hemorrhage_medium").iterdir())
    assert any((other.parent / "hemorrhage_medium" / file.name).read_bytes() != file.read_bytes() for file in files)
    assert len(rows_of(other)) == len(rows_of(one))


def test_sizes_grow(two_hundred):
    sizes: dict[str, list[float]] = {"small": [], "large": []}
    for row in rows_of(two_hundred):
        if row["kind"] == "hemorrhage":
            sizes[row["size"]].append(float(row["size_mm"]))
    assert np.mean(sizes["large"]) > 2 * np.mean(sizes["small"])


def test_hounsfield_units_stay_hounsfield_units(tmp_path):
    write_phantom(tmp_path / "data", 2, size=96, form="volumes")
    prepare(tmp_path / "data", tmp_path / "m.csv", every_mm=25.0)
    path = write_twins(tmp_path / "m.csv", tmp_path / "twins", kinds=["hemorrhage", "calcification"])
    rows = rows_of(path)
    originals = {row["case"]: row for row in rows}
    for row in rows:
        if row["kind"] != "hemorrhage":
            continue
        before = nib.load(path.parent / originals[row["original"]]["ct"])
        after = nib.load(path.parent / row["ct"])
        mask = pixels(path.parent / row["mask"]) > 127
        from monai_ctmri.transforms import LoadSlice

        slices = [LoadSlice("ct")(Path(image.get_filename())).numpy()[0] for image in (before, after)]
        assert slices[0].min() < -900
        np.testing.assert_array_equal(slices[1] < -500, slices[0] < -500)
        assert 40 <= np.median(slices[1][mask]) <= 85


def test_one_modality_alone(source, tmp_path):
    Manifest([replace(case, mri=None) for case in Manifest.read(source)][:4]).write_csv(tmp_path / "ct.csv")
    kinds = {row["kind"] for row in rows_of(write_twins(tmp_path / "ct.csv", tmp_path / "t"))} - {""}
    assert "hemorrhage" in kinds
    assert "ct_rings" in kinds
    assert not kinds & {"mri_motion", "flip", "wrong_pair", "infarct_mri_only"}


@pytest.mark.parametrize(
    ("options", "message"),
    [({"kinds": ["measles"]}, "kind 'measles': unknown"), ({"sizes": ["huge"]}, "size 'huge': unknown")],
)
def test_what_is_not_known_is_refused_before_anything_is_written(source, tmp_path, options, message):
    with pytest.raises(InputError, match=message):
        write_twins(source, tmp_path / "t", **options)
    assert not (tmp_path / "t").exists()


def test_abnormal_and_quarantined_cases_get_no_twins(source, tmp_path):
    cases = list(Manifest.read(source))[:4]
    cases[0] = replace(cases[0], label=1)
    cases[1] = replace(cases[1], note="quarantined: blank")
    Manifest(cases).write_csv(tmp_path / "m.csv")
    rows = rows_of(write_twins(tmp_path / "m.csv", tmp_path / "t", kinds=["hemorrhage"]))
    assert {row["original"] for row in rows} - {""} == {cases[2].name, cases[3].name}


def test_real_pairs_take_every_kind(real_data, tmp_path):
    manifest = Manifest.read(real_data / "pairs")
    chosen = [case for case in manifest if case.ct.stem in ("16010", "16012", "21013", "21016")]
    assert len(chosen) == 4
    Manifest(chosen).write_csv(tmp_path / "m.csv")
    rows = rows_of(write_twins(tmp_path / "m.csv", tmp_path / "t"))
    assert {row["kind"] for row in rows} - {""} == set(SUITE)
