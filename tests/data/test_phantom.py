"""The phantom against what is known of heads: tissue tables, symmetry, independence of seeds, geometry of the files."""

from __future__ import annotations

import csv
import json
import time

import numpy as np
import pytest

from monai_ctmri.data.anatomy import TISSUES, Head, load_template
from monai_ctmri.data.contrast import HOUNSFIELD, MR_CONTRASTS, MR_SIGNAL
from monai_ctmri.data.manifest import Manifest
from monai_ctmri.data.phantom import PhantomSettings, draw_subject, is_phantom, write_phantom
from monai_ctmri.errors import InputError

SMALL = PhantomSettings(size=64, slices=4)
LABEL = {name: index for index, name in enumerate(TISSUES)}


@pytest.fixture(scope="module")
def subject():
    return draw_subject(7, PhantomSettings(size=128, slices=6))


def test_same_seed_is_the_same_subject_and_another_seed_is_not():
    first, again, other = draw_subject(3, SMALL), draw_subject(3, SMALL), draw_subject(4, SMALL)
    np.testing.assert_array_equal(first.ct, again.ct)
    np.testing.assert_array_equal(first.mri, again.mri)
    assert np.abs(first.ct - other.ct).mean() > 10


def test_drawing_leaves_the_process_wide_random_state_alone():
    np.random.seed(11)  # noqa: NPY002
    expected = np.random.random()  # noqa: NPY002
    np.random.seed(11)  # noqa: NPY002
    draw_subject(1, SMALL)
    assert np.random.random() == expected  # noqa: NPY002


@pytest.mark.parametrize("tissue", ["csf", "gm", "wm", "bone"])
def test_pure_tissue_has_the_hounsfield_units_of_the_table(subject, tissue):
    settings = PhantomSettings(size=128, slices=6)
    axis = (np.arange(128) - 63.5) * settings.spacing_mm
    z, y, x = np.meshgrid(subject.levels_mm, -axis, -axis, indexing="ij")
    fractions = Head(7).tissue_fractions(np.stack([x.ravel(), y.ravel(), z.ravel()]))[LABEL[tissue]].reshape(z.shape)
    # Away from edges only: the scanner's blur mixes neighbours.
    from scipy.ndimage import minimum_filter

    pure = minimum_filter(fractions, size=1 if tissue == "bone" else (1, 3, 3)) > 0.9
    assert pure.sum() > 20
    # A table of bone is 2 mm thin, so that the blur of 1 mm takes up to half of its density.
    tolerance = 0.5 * HOUNSFIELD["bone"] if tissue == "bone" else 6
    assert abs(float(subject.ct[pure].mean()) - HOUNSFIELD[tissue]) < tolerance


def test_air_is_air_and_grey_matter_is_denser_than_white(subject):
    assert abs(float(subject.ct[subject.tissue == LABEL["air"]].mean()) + 1000) < 60
    grey, white = (subject.ct[subject.tissue == LABEL[name]].mean() for name in ("gm", "wm"))
    assert 4 < grey - white < 14


@pytest.mark.parametrize("contrast", MR_CONTRASTS)
def test_tissue_order_follows_the_contrast_table(contrast):
    subject = draw_subject(5, PhantomSettings(size=96, slices=4, contrast=contrast))
    table = MR_SIGNAL[contrast]
    measured = {name: float(subject.mri[subject.tissue == LABEL[name]].mean()) for name in ("csf", "gm", "wm")}
    expected_order = sorted(measured, key=table.__getitem__)
    assert sorted(measured, key=measured.__getitem__) == expected_order
    assert subject.contrast == contrast


def test_anatomy_has_plausible_volumes():
    subject = draw_subject(2, PhantomSettings(size=110, field_of_view_mm=220, form="volumes"))
    litres = {name: float((subject.tissue == LABEL[name]).sum()) * 2.0**3 / 1e6 for name in ("csf", "gm", "wm")}
    # Healthy adults: grey .55-.85, white .40-.65 l (Luders et al., 2002), intracranial 1.1-1.8 l.
    assert 0.45 < litres["gm"] < 1.0
    assert 0.3 < litres["wm"] < 0.75
    assert 1.0 < sum(litres.values()) < 2.0


def test_the_skull_encloses_the_brain(subject):
    from scipy.ndimage import binary_fill_holes

    for tissue in subject.tissue:
        skull = np.isin(tissue, (LABEL["bone"], LABEL["diploe"]))
        brain = np.isin(tissue, (LABEL["gm"], LABEL["wm"]))
        assert (binary_fill_holes(skull) & brain).sum() == brain.sum()


def test_levels_of_the_head_reach_from_the_skull_base_to_the_vertex():
    brain, head = (draw_subject(5, PhantomSettings(size=64, slices=8, levels=levels)) for levels in ("brain", "head"))
    assert head.levels_mm[0] < brain.levels_mm[0] - 15
    assert head.levels_mm[-1] > brain.levels_mm[-1] + 8

    def share(subject, place):
        inside = subject.tissue[place] != LABEL["air"]
        return np.isin(subject.tissue[place], [LABEL["gm"], LABEL["wm"], LABEL["csf"]]).sum() / inside.sum()

    # More of such a slice is face, bone and scalp.
    assert max(share(head, 0), share(head, -1)) < min(share(brain, place) for place in range(8))
    same = draw_subject(5, PhantomSettings(size=64, slices=8, levels="head", form="volumes"))
    volume = draw_subject(5, PhantomSettings(size=64, slices=8, form="volumes"))
    np.testing.assert_array_equal(same.levels_mm, volume.levels_mm)


def test_template_is_symmetric_so_asymmetry_is_only_what_is_drawn():
    template = load_template()
    np.testing.assert_allclose(template.gm, template.gm[::-1], atol=1e-6)
    head = Head(9, asymmetry=0.0)
    x = np.array([[12.0, 30.0, 41.0], [3.0, -40.0, 20.0], [10.0, 5.0, 25.0]])
    mirrored = x * np.array([[-1.0], [1.0], [1.0]])
    # Pose is not part of the deformation; without it a symmetric head maps mirrored points to mirrored points.
    head.angles, head.shift_mm = np.zeros(3), np.zeros(3)
    left, right = head.to_template(x), head.to_template(mirrored)
    np.testing.assert_allclose(left * np.array([[-1.0], [1.0], [1.0]]), right, atol=1e-3)
    asymmetric = Head(9, asymmetry=0.5)
    asymmetric.angles, asymmetric.shift_mm = np.zeros(3), np.zeros(3)
    gap = asymmetric.to_template(x) * np.array([[-1.0], [1.0], [1.0]]) - asymmetric.to_template(mirrored)
    assert np.abs(gap).max() > 0.2
    assert draw_subject(9, PhantomSettings(size=64, slices=4, asymmetry=0.0)).ct.shape == (4, 64, 64)


def test_a_subject_a_second_on_one_core():
    draw_subject(0)
    start = time.process_time()
    for seed in range(1, 4):
        draw_subject(seed)
    assert (time.process_time() - start) / 3 < 1.0


def test_fractions_sum_to_one():
    points = np.random.default_rng(0).uniform(-110, 110, (3, 500))
    fractions = Head(1).tissue_fractions(points)
    assert fractions.min() >= 0
    np.testing.assert_allclose(fractions.sum(0), 1, atol=1e-5)


def test_folder_holds_pictures_truth_description_and_manifest(tmp_path):
    from PIL import Image

    calls: list[tuple[int, int]] = []
    path = write_phantom(tmp_path / "p", 2, 5, size=64, slices=3, progress=lambda a, b: calls.append((a, b)))
    assert calls == [(1, 2), (2, 2)]
    manifest = Manifest.read(path)
    assert len(manifest) == 6
    assert manifest.is_paired
    assert manifest.subjects == ("phantom-000005", "phantom-000006")
    description = json.loads((tmp_path / "p" / "phantom.json").read_text())
    assert description["ct"] == {"window_centre_hu": 40.0, "window_width_hu": 80.0}
    case = manifest[0]
    subject = draw_subject(5, PhantomSettings(size=64, slices=3))
    picture = np.asarray(Image.open(case.ct))
    np.testing.assert_array_equal(picture, np.round(np.clip(subject.ct[0] / 80, 0, 1) * 255).astype(np.uint8))
    truth = np.asarray(Image.open(tmp_path / "p" / "tissue" / case.ct.name))
    np.testing.assert_array_equal(truth, subject.tissue[0])
    with path.open(newline="") as handle:
        assert next(csv.DictReader(handle))["note"] == "T2"


def test_data_do_not_depend_on_count_order_or_workers(tmp_path):
    write_phantom(tmp_path / "one", 1, 1, size=48, slices=2)
    write_phantom(tmp_path / "many", 3, 0, size=48, slices=2, workers=2)
    for folder in ("ct", "mri", "tissue"):
        name = "phantom-000001_01.png"
        assert (tmp_path / "one" / folder / name).read_bytes() == (tmp_path / "many" / folder / name).read_bytes()


def test_volumes_are_hounsfield_units_on_an_ras_grid(tmp_path):
    import nibabel

    path = write_phantom(tmp_path, 1, 3, size=55, form="volumes")
    case = Manifest.read(path)[0]
    image = nibabel.load(case.ct)
    assert nibabel.aff2axcodes(image.affine) == ("R", "A", "S")
    np.testing.assert_allclose(image.header.get_zooms(), 240 / 55)
    values = np.asarray(image.dataobj)
    assert values.min() < -900
    assert values.max() > 700
    drawn = draw_subject(3, PhantomSettings(size=55, form="volumes"))
    # Voxel (i, j, k) is the patient's left-to-right, back-to-front; a picture is the reverse of both.
    np.testing.assert_allclose(values[4, 40, 10], np.round(drawn.ct[10, 55 - 1 - 40, 55 - 1 - 4]))
    middle = np.array([*(np.array(values.shape[:2]) - 1) / 2, 0, 1])
    np.testing.assert_allclose((image.affine @ middle)[:2], 0, atol=1e-5)


def test_the_same_folder_is_kept_and_another_phantom_is_refused(tmp_path):
    path = write_phantom(tmp_path, 1, 0, size=32, slices=1)
    before = path.stat().st_mtime_ns
    assert write_phantom(tmp_path, 1, 0, size=32, slices=1).stat().st_mtime_ns == before
    with pytest.raises(InputError, match="other settings"):
        write_phantom(tmp_path, 2, 0, size=32, slices=1)


def test_a_run_cut_off_leaves_no_manifest_and_is_completed_by_the_next(tmp_path):
    def stop(done: int, total: int) -> None:
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_phantom(tmp_path, 3, 0, size=32, slices=1, progress=stop)
    assert not (tmp_path / "manifest.csv").exists()
    assert len(Manifest.read(write_phantom(tmp_path, 3, 0, size=32, slices=1))) == 3
    assert not list(tmp_path.rglob(".*.tmp.*"))


@pytest.mark.parametrize(
    "wrong",
    [{"contrast": "T3"}, {"form": "dicom"}, {"levels": "neck"}, {"size": 4}, {"slices": 0}, {"subjects": 0}],
)
def test_settings_out_of_range_are_one_clear_line(tmp_path, wrong):
    with pytest.raises(InputError) as caught:
        write_phantom(tmp_path, **wrong)
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_mixed_contrast_is_the_subjects_own():
    settings = PhantomSettings(size=32, slices=1, contrast="mixed")
    contrasts = {seed: draw_subject(seed, settings).contrast for seed in range(12)}
    assert len(set(contrasts.values())) >= 3
    assert draw_subject(4, settings).contrast == contrasts[4]


def test_a_phantom_is_known_as_one_also_through_a_manifest_prepared_from_it(tmp_path):
    folder = write_phantom(tmp_path / "p", 1, size=16, slices=1).parent
    assert is_phantom(folder)
    assert not is_phantom(tmp_path)
    for text, answer in (('{"phantom": true}', True), ('{"phantom": false}', False), ("[]", False), ("{", False)):
        (tmp_path / "preparation.json").write_text(text)
        assert is_phantom(tmp_path) is answer
