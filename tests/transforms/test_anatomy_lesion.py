"""What every lesion that is drawn from the anatomy promises: one table of transforms, one head of known tissue."""

from __future__ import annotations

import json
import pickle
from functools import partial

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import Compose
from PIL import Image
from scipy import ndimage

from monai_ctmri.data.phantom import PhantomSettings, PhantomSubject, draw_subject
from monai_ctmri.errors import InputError
from monai_ctmri.transforms.anatomy_lesion import FLUID_CT_HU, FLUID_MRI, AnatomyLesionTransform
from monai_ctmri.transforms.anomalies import abnormal_twins, assert_families_unseen
from monai_ctmri.transforms.dense_anomalies import InjectCalcificationd, InjectMetald
from monai_ctmri.transforms.displacement_anomalies import InjectAtrophyd, InjectHydrocephalusd, InjectMidlineShiftd
from monai_ctmri.transforms.extra_axial import InjectCollectiond
from monai_ctmri.transforms.lesion import Lesion, LesionTransform
from monai_ctmri.transforms.structure_anomalies import InjectForeignStructured, InjectMissingStructured

SPACING = 1.8
SIZE = 128
MAKES = {
    "acute_collection": InjectCollectiond,
    "isodense_collection": partial(InjectCollectiond, stage="isodense"),
    "chronic_collection": partial(InjectCollectiond, stage="chronic"),
    "calcification": InjectCalcificationd,
    "metal": InjectMetald,
    "midline_shift": InjectMidlineShiftd,
    "hydrocephalus": InjectHydrocephalusd,
    "atrophy": InjectAtrophyd,
    "craniectomy": InjectMissingStructured,
    "resection": partial(InjectMissingStructured, structure="resection"),
    "shunt_catheter": InjectForeignStructured,
    "swapped_patch": partial(InjectForeignStructured, structure="patch"),
}
every = pytest.mark.parametrize("kind", MAKES)


def ellipse(rows: float, columns: float, down: float = 0.0, right: float = 0.0) -> np.ndarray:
    y, x = np.indices((SIZE, SIZE)) - (SIZE - 1) / 2
    return ((y - down) / rows) ** 2 + ((x - right) / columns) ** 2 <= 1


BRAIN = ellipse(48, 38)
SKULL = ellipse(52, 42) & ~BRAIN
HEAD = ellipse(55, 45)
VENTRICLES = ellipse(14, 4, 0, -8) | ellipse(14, 4, 0, 8)


def case(seed: int = 0, **entries):
    """CT and T2 of a head with grey ribbon, ventricles, skull and scalp, with noise inside the skull."""
    random = np.random.RandomState(seed)
    ct, mri = np.zeros((SIZE, SIZE)), np.zeros((SIZE, SIZE))
    for where, in_ct, in_mri in (
        (HEAD, 0.3, 0.5),
        (SKULL | BRAIN, 1.0, 0.05),
        (BRAIN, 36 / 80, 0.36),
        (ellipse(44, 34), 28 / 80, 0.3),
        (VENTRICLES, 6 / 80, 0.85),
    ):
        ct[where], mri[where] = in_ct, in_mri
    ct[BRAIN] += 2 / 80 * random.standard_normal(int(BRAIN.sum()))
    mri[BRAIN] += 0.012 * random.standard_normal(int(BRAIN.sum()))
    images = {k: torch.as_tensor(np.clip(v, 0, 1), dtype=torch.float32)[None] for k, v in (("ct", ct), ("mri", mri))}
    return {"case": f"c{seed}", "subject": f"s{seed}", "label": 0, **images, **entries}


def injected(kind: str, seed: int = 0, data=None, **options):
    data = case(seed) if data is None else data
    return data, MAKES[kind](**options).set_random_state(seed=seed)(data)


def change(before, after, key: str) -> np.ndarray:
    return np.asarray(after[key], dtype=np.float64)[0] - np.asarray(before[key], dtype=np.float64)[0]


def mask_of(out) -> np.ndarray:
    return np.asarray(out["mask"])[0] > 0.5


@pytest.fixture(scope="module")
def phantom() -> PhantomSubject:
    return draw_subject(2, PhantomSettings(size=SIZE, slices=2))


@every
def test_result_and_record(kind):
    for seed in range(1):
        before, after = injected(kind, seed)
        record = after["anomaly"]
        assert record["kind"] == kind
        assert record["family"] == "B"
        assert len(record["source"]) > 10
        assert json.loads(json.dumps(record)) == record
        assert after["label"] == 1
        assert set(np.unique(np.asarray(after["mask"]))) == {0.0, 1.0}
        assert record["size_mm"] == pytest.approx(2 * np.sqrt(mask_of(after).sum() / np.pi) * SPACING)
        for key in ("ct", "mri"):
            assert isinstance(after[key], MetaTensor)
            assert after[key].dtype == torch.float32
            assert float(after[key].min()) >= 0
            assert float(after[key].max()) <= 1
            assert np.abs(change(before, after, key)).max() > 0.02, key


@every
def test_nothing_changes_far_from_the_mask_unless_declared(kind):
    for seed in range(2):
        before, after = injected(kind, seed)
        far = ndimage.distance_transform_edt(~mask_of(after)) > 2.0
        warped = bool(after["anomaly"].get("warped"))
        outside = far & ~BRAIN if warped else far
        assert not change(before, after, "mri")[outside].any()
        if kind == "metal":
            # The streaks are declared; they leave air and bone alone.
            assert after["anomaly"]["streak_hu"] > 0
            outside = far & (~HEAD | (before["ct"][0].numpy() >= 0.99))
        assert not change(before, after, "ct")[outside].any()
        assert warped == (kind in ("midline_shift", "hydrocephalus", "atrophy") or kind.endswith("collection"))


@every
def test_the_mask_holds_the_largest_change(kind):
    for seed in range(2):
        before, after = injected(kind, seed)
        mask = mask_of(after)
        assert mask.sum() >= 1
        inside = max(np.abs(change(before, after, key))[mask].mean() for key in ("ct", "mri"))
        beyond = ndimage.distance_transform_edt(~mask) > 3
        outside = max(np.abs(change(before, after, key))[beyond & BRAIN].mean() for key in ("ct", "mri"))
        assert inside > (1.0 if kind == "hydrocephalus" else 1.5) * outside


@every
@pytest.mark.parametrize("given", [True, False])
def test_zero_contrast_changes_no_voxel(kind, given):
    data = case(1, **({"brain": BRAIN[None].astype(np.float32)} if given else {}))
    _, after = injected(kind, 1, data, contrast=0)
    for key in ("ct", "mri"):
        assert torch.equal(torch.as_tensor(after[key]), data[key])
    assert mask_of(after).any()
    assert after["label"] == 1
    assert after["anomaly"]["contrast_to_noise"] == 0
    assert not after["anomaly"].get("warped")


@every
def test_half_contrast_changes_less_in_the_same_place(kind):
    data = case(2)
    _, full = injected(kind, 2, data)
    _, half = injected(kind, 2, data, contrast=0.5)
    np.testing.assert_array_equal(mask_of(full), mask_of(half))
    for key in ("ct", "mri"):
        assert 0 < np.abs(change(data, half, key)).sum() < np.abs(change(data, full, key)).sum()


@every
def test_seeds_pickle_and_repeat(kind):
    data = case(0)
    transform = MAKES[kind]().set_random_state(seed=5)
    copied = pickle.loads(pickle.dumps(transform))
    first = transform(data)
    second, again, other = copied(data), transform(data, randomize=False), injected(kind, 6, data)[1]
    for key in ("ct", "mri", "mask"):
        assert torch.equal(first[key], second[key])
        assert torch.equal(first[key], again[key])
    assert first["anomaly"] == second["anomaly"] == again["anomaly"]
    assert not torch.equal(first["ct"], other["ct"])


@every
def test_input_and_global_random_state_stay(kind):
    data = case(0)
    kept = {key: value.clone() for key, value in data.items() if isinstance(value, torch.Tensor)}
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    injected(kind, 0, data)
    np.testing.assert_array_equal(before, np.random.get_state()[1])  # noqa: NPY002
    for key, value in kept.items():
        assert torch.equal(data[key], value)
    assert data["label"] == 0


@every
@pytest.mark.parametrize("kept", ["ct", "mri"])
def test_one_modality_missing(kind, kept):
    data = case(0)
    del data[{"ct": "mri", "mri": "ct"}[kept]]
    _, after = injected(kind, 0, data)
    assert np.abs(change(data, after, kept)).max() > 0.02
    assert list(after["anomaly"]["contrast_to_noise_of"]) == [kept]
    assert not (mask_of(after) & ~ndimage.binary_dilation(HEAD, iterations=2)).any()


@every
@pytest.mark.parametrize("shown", ["ct", "mri"])
def test_lesion_that_one_modality_shows(kind, shown):
    hidden = {"ct": "mri", "mri": "ct"}[shown]
    before, after = injected(kind, 1, keys=(shown,))
    assert torch.equal(torch.as_tensor(after[hidden]), before[hidden])
    assert np.abs(change(before, after, shown)).max() > 0.02


@every
def test_probability_zero_and_image_entry(kind):
    data = case(0)
    data["image"] = torch.cat([data["ct"], data["mri"]])
    untouched = MAKES[kind](prob=0.0)(data)
    assert untouched["label"] == 0
    assert untouched["ct"] is data["ct"]
    _, after = injected(kind, 0, data)
    assert torch.equal(torch.as_tensor(after["image"]), torch.cat([after["ct"], after["mri"]]).as_tensor())
    assert not torch.equal(torch.as_tensor(after["image"]), data["image"])


@every
def test_hounsfield_units_in_and_out(kind, phantom):
    meta = {"windowed": False, "filename_or_obj": "x"}
    ct = MetaTensor(torch.as_tensor(phantom.ct[0])[None], meta=meta)
    mri = torch.as_tensor(np.clip(phantom.mri[0] / np.percentile(phantom.mri[0], 99.9), 0, 1), dtype=torch.float32)
    spacing = 240 / SIZE
    in_hu = {"case": "p", "ct": ct, "mri": mri[None]}
    windowed = {**in_hu, "ct": torch.clamp(ct.as_tensor() / 80, 0, 1)}
    _, hu = injected(kind, 3, in_hu, pixel_spacing_mm=spacing)
    _, pictured = injected(kind, 3, windowed, pixel_spacing_mm=spacing)
    np.testing.assert_array_equal(mask_of(hu), mask_of(pictured))
    values = np.asarray(hu["ct"])[0]
    # Air and bone keep their HU; what a window shows of the result is what the windowed slice got.
    assert values.min() < -900
    assert values.max() > 300
    seen = np.clip(values / 80, 0, 1)
    difference = np.abs(seen - np.asarray(pictured["ct"])[0])
    # A window cannot be undone where it clipped: noise below 0 HU and warped borders of bone differ a little.
    assert difference[mask_of(hu)].mean() < 4 / 80
    assert (difference < 0.02).mean() > 0.95


# The others are bound to the middle of the brain; their location is tested with their own kinds.
@pytest.mark.parametrize("kind", [kind for kind in MAKES if kind not in ("midline_shift", "atrophy", "hydrocephalus")])
def test_location_moves_it_there(kind):
    data = case(0)
    for seed, (row, column) in enumerate([(0.4, 0.15), (0.6, 0.85)]):
        _, after = injected(kind, seed, data, location=(row, column))
        changed = mask_of(after)
        middle = ndimage.center_of_mass(changed)
        assert (middle[1] > (SIZE - 1) / 2) == (column > 0.5)


@every
def test_works_in_compose_and_for_numpy(kind):
    data = {key: np.asarray(value) if isinstance(value, torch.Tensor) else value for key, value in case(0).items()}
    one, other = (Compose([MAKES[kind]()]).set_random_state(3)(data) for _ in range(2))
    assert torch.equal(one["ct"], other["ct"])
    assert isinstance(one["ct"], MetaTensor)


@pytest.mark.parametrize("kind", ["resection", "craniectomy", "swapped_patch", "midline_shift"])
def test_small_and_large_pixels(kind):
    """The same head at half the resolution: the lesion has about the same size in mm."""
    data = case(0)
    small = {key: value[:, ::2, ::2] if isinstance(value, torch.Tensor) else value for key, value in data.items()}
    _, fine = injected(kind, 4, data, pixel_spacing_mm=1.8)
    _, coarse = injected(kind, 4, small, pixel_spacing_mm=3.6)
    assert mask_of(coarse).any()
    assert coarse["anomaly"]["size_mm"] == pytest.approx(fine["anomaly"]["size_mm"], rel=0.25)


def test_families_and_twins():
    makers = [make() for make in MAKES.values()]
    assert sorted(one.kind for one in makers) == sorted(MAKES)
    with pytest.raises(InputError, match="family B"):
        assert_families_unseen(Compose(makers[:1]))
    twins = list(abnormal_twins([case(0)], makers, seed=1))
    assert [twin["anomaly"]["kind"] for twin in twins] == list(MAKES)


# --- what the base tells a drawing transform --------------------------------------------------------------------------


class Probe(AnatomyLesionTransform):
    """Keeps what it was shown."""

    kind = "probe"

    def _draw(self, brain: np.ndarray, size_mm: float) -> Lesion:
        self.shown = {
            "ct": self._picture("ct"),
            "mri": self._picture("mri"),
            "inside": self._inner_skull(brain),
            "fluid": self._fluid(brain),
            "near": self._near_location(brain),
            "bearings": self._bearings(BRAIN),
        }
        return Lesion(brain)


def probed(data=None, **options):
    probe = Probe(**options).set_random_state(seed=0)
    probe(case(0) if data is None else data)
    return probe


def test_probe_is_a_lesion_and_forgets_the_case():
    probe = probed()
    assert isinstance(probe, LesionTransform)
    assert probe._seen is None
    np.testing.assert_allclose(probe.shown["ct"], case(0)["ct"][0].numpy(), atol=1e-6)
    assert probed(keys=("mri",)).shown["ct"] is None


def test_inside_of_the_skull_is_found_from_ct():
    inside = probed().shown["inside"]
    overlap = 2 * (inside & BRAIN).sum() / (inside.sum() + BRAIN.sum())
    assert overlap > 0.97
    given = ellipse(30, 20)
    inside = probed(case(0, brain=given[None].astype(np.float32))).shown["inside"]
    np.testing.assert_array_equal(inside, given)


def test_a_sinus_that_opens_into_the_skull_is_cut_off():
    data = case(0)
    ct = data["ct"].numpy().copy()
    ct[0][(np.abs(np.arange(SIZE) - 63.5) < 2)[None] & (np.arange(SIZE) < 24)[:, None] & (SKULL | BRAIN)] = 0.4
    inside = probed({**data, "ct": torch.as_tensor(ct)}).shown["inside"]
    assert not (inside & SKULL).any()


@pytest.mark.parametrize("keys", [("ct", "mri"), ("ct",), ("mri",)])
def test_fluid_is_where_the_ventricles_are(keys):
    fluid = probed(keys=keys).shown["fluid"]
    assert fluid[ndimage.binary_erosion(VENTRICLES)].min() > 0.9
    assert fluid[ellipse(40, 30) & ~ndimage.binary_dilation(VENTRICLES, iterations=2)].mean() < 0.05


def test_pd_does_not_tell_fluid():
    assert not probed(keys=("mri",), mri_contrast="PD").shown["fluid"].any()


def test_weight_around_a_location():
    assert (probed().shown["near"] == 1).all()
    near = probed(location=(0.5, 0.0)).shown["near"]
    assert np.unravel_index(near.argmax(), near.shape)[1] < 32
    assert near[:, 90:].max() < 0.2


def test_bearings_start_at_the_front():
    bearings, radius = probed().shown["bearings"]
    assert bearings[20, 64] == pytest.approx(0, abs=2)
    assert bearings[64, 100] == pytest.approx(90, abs=2)
    assert bearings[64, 28] == pytest.approx(-90, abs=2)
    assert radius == pytest.approx(np.sqrt(48 * 38) * SPACING, rel=0.01)


def test_fluid_values_lie_in_the_textbook_ranges():
    assert 0 <= FLUID_CT_HU[0] < FLUID_CT_HU[1] <= 15
    assert FLUID_MRI["T2"][0] > 0.5
    assert FLUID_MRI["T1"][1] < -0.3
    assert FLUID_MRI["FLAIR"][1] < -0.3


# --- real pictures ----------------------------------------------------------------------------------------------------


@every
@pytest.mark.parametrize("name", ["16014", "21012"])
def test_real_pairs(real_data, kind, name):
    data = {"case": name, "subject": name[:2], "mri_contrast": "T2"}
    for key in ("ct", "mri"):
        picture = Image.open(real_data / "pairs" / key / f"{name}.png").convert("L").resize((SIZE, SIZE))
        data[key] = torch.as_tensor(np.asarray(picture, dtype=np.float32) / 255)[None]
    _, after = injected(kind, 0, data, pixel_spacing_mm=1.88)
    mask = mask_of(after)
    head = ndimage.binary_fill_holes(ndimage.binary_closing(data["ct"][0].numpy() > 0.05, iterations=3))
    assert head[mask].mean() > 0.95
    ct, mri = (change(data, after, key)[mask] for key in ("ct", "mri"))
    expected = {
        "acute_collection": ct.mean() > 0.1,
        "isodense_collection": abs(ct.mean()) < 0.2 and mri.mean() > 0.02,
        "chronic_collection": mri.mean() > 0.1,
        "calcification": ct.max() > 0.3 and mri.mean() < 0,
        "metal": ct.max() > 0.4 and mri.mean() < -0.1,
        "craniectomy": ct.mean() < -0.3,
        "resection": ct.mean() < -0.1 and mri.mean() > 0.1,
        "shunt_catheter": ct.max() > 0.4 and mri.mean() < -0.05,
        "atrophy": ct.mean() < -0.1 and mri.mean() > 0.1,
        "hydrocephalus": mri.mean() > 0 and ct.mean() < 0,
    }
    assert expected.get(kind, np.abs(ct).mean() > 0.02)
