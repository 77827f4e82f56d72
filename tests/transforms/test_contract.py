"""What every public transform keeps. They are found by introspection: an exported one that CASES lacks fails."""

from __future__ import annotations

import copy
import importlib
import inspect
import pickle
import pkgutil
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import torch
from monai.data import CacheDataset, DataLoader, Dataset, MetaTensor, PersistentDataset, set_track_meta
from monai.data.utils import no_collation
from monai.transforms import Compose, MapTransform, Randomizable, Transform
from torch.utils.data import ConcatDataset

from monai_ctmri import transforms

CONTAINERS: dict[str, Callable[[np.ndarray], Any]] = {"numpy": np.array, "torch": torch.tensor, "meta": MetaTensor}
MONAI_ROOMS = (
    *("apps", "data", "engines", "handlers", "inferers", "losses", "metrics", "optimizers", "transforms", "utils"),
    *("networks.blocks", "networks.layers", "networks.nets", "visualize"),
)


def head_slice(kind: str = "ct") -> np.ndarray:
    """An axial head (1, 96, 96) float32 in [0, 1]: skull (bright in CT, dark in MRI), textured brain, air."""
    y, x = np.mgrid[:96, :96]
    r = np.hypot((y - 47.5) / 42, (x - 47.5) / 36)
    texture = 0.4 + 0.05 * np.sin(y / 5) * np.cos(x / 7) + 0.01 * np.random.RandomState(0).standard_normal(r.shape)
    bone, scalp = (1.0, 0.3) if kind == "ct" else (0.1, 0.8)
    return np.select([r < 0.85, r < 0.95, r < 1], [texture, bone, scalp], 0.0).astype(np.float32)[None]


def head_volume(kind: str = "ct") -> np.ndarray:
    """A head (1, 96, 96, 5) float32: the slice above, five times, brighter from slice to slice."""
    return np.stack([head_slice(kind) * (1 + 0.1 * level) for level in range(5)], axis=-1)


@dataclass(frozen=True)
class Case:
    """How to build one transform and feed it.

    Attributes:
        options: constructor arguments.
        inputs: names of the arrays it takes; for a dictionary transform, the entries of the case.
        outputs: entries that must come out as tensors; a dictionary transform's inputs when empty.
        files: the inputs are paths.
        optional: entries that may all be absent when missing keys are allowed; the inputs when None.
        volume: the inputs are volumes.
        shape: of the outputs.
        beside: further entries of the case it is given.
    """

    options: dict[str, Any] = field(default_factory=dict)
    inputs: tuple[str, ...] = ("ct",)
    outputs: tuple[str, ...] = ()
    files: bool = False
    optional: tuple[str, ...] | None = None
    volume: bool = False
    shape: tuple[int, ...] = (1, 96, 96)
    beside: dict[str, Any] = field(default_factory=dict)


INJECTION = Case({"prob": 1.0}, ("ct", "mri"), ("ct", "mri", "mask"), optional=("mri",))
OF_MRI = Case({"prob": 1.0}, ("ct", "mri"), ("ct", "mri", "mask"), optional=("ct",))
OF_PAIR = Case({"prob": 1.0}, ("ct", "mri"), ("ct", "mri", "mask"), optional=())
STRANGER = {"subject": "other", "ct": head_slice("ct")[:, ::-1] * 0.9, "mri": head_slice("mri")[:, ::-1] * 0.9}
FOREIGN = Case({"prob": 1.0, "donors": [STRANGER]}, ("ct", "mri"), ("ct", "mri", "mask"), optional=("mri",))
NEIGHBOUR = {**STRANGER, "subject": "someone", "slice_index": 9}
RANDOM_IMAGE = Case({"prob": 1.0})
RANDOM_PAIR = Case({"keys": ("ct", "mri"), "prob": 1.0}, ("ct", "mri"))
LANDMARKS = transforms.HistogramLandmarks((0.0, 50.0, 100.0), (0.0, 0.4, 1.0), 1)
HEALTHY = transforms.HealthyStatistics.of([head_slice(), 0.9 * head_slice(), 0.8 * head_slice()])
CASES = {
    "AxialSlicesd": Case({"levels_mm": None}, ("ct", "mri"), volume=True),
    "BrainMask": Case(),
    "BrainMaskd": Case({}, ("image",), ("brain",)),
    "HeadMask": Case(),
    "HeadMaskd": Case({}, ("image",), ("head",)),
    "InjectHemorrhaged": INJECTION,
    "InjectInfarctd": INJECTION,
    "InjectTumourd": INJECTION,
    "InjectWrongPaird": Case(
        {"donors": [{"subject": "other", "ct": head_slice("ct")[:, ::-1], "mri": head_slice("mri")[:, ::-1]}]},
        ("ct", "mri"),
        optional=(),
    ),
    "LoadMask": Case(files=True),
    "LoadMaskd": Case({}, ("mask",), files=True),
    "LoadSlice": Case(files=True),
    "LoadSliced": Case({}, ("ct", "mri"), files=True),
    "LoadVolume": Case({"modality": "mri"}, files=True, volume=True, shape=(1, 96, 96, 5)),
    "LoadVolumed": Case({}, ("ct", "mri"), files=True, volume=True, shape=(1, 96, 96, 5)),
    "MidsagittalAlign": Case(),
    "MidsagittalAlignd": Case({"keys": ("ct", "mri")}, ("ct", "mri")),
    "MirrorDifference": Case(),
    "MirrorDifferenced": Case({"keys": ("ct", "mri")}, ("ct", "mri")),
    "NormalizeMRI": Case({}, ("mri",)),
    "NormalizeMRId": Case({}, ("mri",)),
    "RandIntensityVariation": Case({"prob": 1.0}),
    "RandIntensityVariationd": Case({"keys": ("ct", "mri"), "prob": 1.0}, ("ct", "mri")),
    "RandNoiseInjection": Case({"prob": 1.0}),
    "RandNoiseInjectiond": Case({"keys": ("ct", "mri"), "prob": 1.0}, ("ct", "mri")),
    "RegisterToReference": Case({}, ("mri", "ct")),
    "RegisterToReferenced": Case({}, ("mri", "ct"), ("mri",)),
    "ResidualMap": Case({}, ("ct", "mri")),
    "ResidualMapd": Case({}, ("image", "pred"), ("anomaly_map",)),
    "WindowCT": Case({"windowed": False}),
    "WindowCTd": Case({"windowed": False}),
    "GuessContrast": Case({}, ("mri",)),
    "GuessContrastd": Case({}, ("mri",)),
    "ZScoreMRI": Case({}, ("mri",)),
    "ZScoreMRId": Case({}, ("mri",)),
    "ClampMetal": Case({"windowed": False}),
    "ClampMetald": Case({"windowed": False}),
    "CorrectBiasField": Case({"iterations": (5,)}, ("mri",)),
    "CorrectBiasFieldd": Case({"iterations": (5,)}, ("mri",)),
    "NyulNormalize": Case({"landmarks": LANDMARKS}, ("mri",)),
    "NyulNormalized": Case({"landmarks": LANDMARKS}, ("mri",)),
    "RemoveTable": Case({"windowed": True}),
    "RemoveTabled": Case({"windowed": True, "mask_key": "head"}, ("ct",), ("ct", "head")),
    "CleanMap": Case({"threshold": 0.2, "erode_mm": 4.0, "min_size": 30.0, "pixel_spacing_mm": 1.8}),
    "CleanMapd": Case({"threshold": 0.2, "min_size": 30.0, "pixel_spacing_mm": 1.8}, ("anomaly_map",)),
    "HealthyZMap": Case({"statistics": HEALTHY}),
    "HealthyZMapd": Case({"statistics": HEALTHY}, ("anomaly_map",)),
    "HeatmapScale": Case({"upper": 0.5}),
    "HeatmapScaled": Case({"upper": 0.5}, ("anomaly_map",)),
    "SliceLevel": Case(shape=(1,)),
    "SliceLeveld": Case({}, ("ct",), ("slice_level",), shape=(1,)),
    "InjectChronicInfarctd": INJECTION,
    "InjectIntoVolumed": Case(
        {"lesion": transforms.InjectHemorrhaged(size_mm=(14, 18)), "levels_mm": (0.0, 100.0)},
        ("mri",),
        ("mri", "mask"),
        optional=(),
        volume=True,
        shape=(1, 96, 96, 5),
    ),
    "InjectWrongSliced": Case(
        {"prob": 1.0, "donors": [NEIGHBOUR]},
        ("ct", "mri"),
        ("ct", "mri", "mask"),
        optional=(),
        beside={"slice_index": 3},
    ),
    "InjectOneModalityd": Case(
        {"lesion": transforms.InjectHemorrhaged(), "key": "ct"}, ("ct", "mri"), ("ct", "mri", "mask"), optional=("mri",)
    ),
    "RandForeignPatchd": FOREIGN,
    "RandPoissonPatchd": FOREIGN,
    "RandSharedGeometryd": Case({"prob": 1.0}, ("ct", "mri")),
    "InjectCollectiond": INJECTION,
    "InjectCalcificationd": INJECTION,
    "InjectMetald": INJECTION,
    "InjectMidlineShiftd": INJECTION,
    "InjectHydrocephalusd": INJECTION,
    "InjectAtrophyd": INJECTION,
    "InjectMissingStructured": INJECTION,
    "InjectForeignStructured": INJECTION,
    "InjectStreaksd": INJECTION,
    "InjectRingsd": INJECTION,
    "InjectLowDosed": INJECTION,
    "InjectMotiond": OF_MRI,
    "InjectGhostingd": OF_MRI,
    "InjectSpiked": OF_MRI,
    "InjectBiasd": OF_MRI,
    "InjectMisregistrationd": OF_PAIR,
    "InjectFlipd": OF_PAIR,
    "RandNoiseBlobsd": INJECTION,
    "RandGainShiftd": INJECTION,
    "RandLocalWarpd": INJECTION,
    "RandContrastCurve": RANDOM_IMAGE,
    "RandContrastCurved": RANDOM_PAIR,
    "RandGammaCurve": RANDOM_IMAGE,
    "RandGammaCurved": RANDOM_PAIR,
    "RandBiasShading": RANDOM_IMAGE,
    "RandBiasShadingd": RANDOM_PAIR,
    "RandResolutionLoss": RANDOM_IMAGE,
    "RandResolutionLossd": RANDOM_PAIR,
    "RandDomain": RANDOM_IMAGE,
    "RandDomaind": RANDOM_PAIR,
    "RandCoarseNoise": RANDOM_IMAGE,
    "RandCoarseNoised": RANDOM_PAIR,
    "RandModalityDropout": RANDOM_IMAGE,
    "RandModalityDropoutd": RANDOM_PAIR,
    "AppendMirrord": Case({"keys": "image"}, ("image",), ("image",), shape=(2, 96, 96)),
    "MirrorRange": Case({"pixel_spacing_mm": 1.0}),
    "MirrorRanged": Case({"keys": ("ct", "mri"), "pixel_spacing_mm": 1.0}, ("ct", "mri")),
    "StackModalitiesd": Case({}, ("ct", "mri"), ("image",), optional=("mri",), shape=(2, 96, 96)),
}


def _public() -> dict[str, type]:
    """Every concrete transform class the package exports, by its own name (aliases fall together)."""
    found = (getattr(transforms, name) for name in transforms.__all__)
    return {
        each.__name__: each
        for each in found
        if inspect.isclass(each) and issubclass(each, Transform) and not inspect.isabstract(each)
    }


PUBLIC = _public()
DICTIONARY = sorted(name for name, each in PUBLIC.items() if issubclass(each, MapTransform))
RANDOM = sorted(name for name, each in PUBLIC.items() if issubclass(each, Randomizable))
every_transform = pytest.mark.parametrize("name", sorted(PUBLIC))


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a slice and a volume."""
    folder = tmp_path_factory.mktemp("contract")
    np.save(folder / "slice.npy", head_slice())
    nibabel.save(nibabel.Nifti1Image(head_volume()[0], np.eye(4)), folder / "volume.nii.gz")
    return folder


def build(name: str, **options: Any) -> Any:
    """The transform, seeded when it is random."""
    assert name in CASES, f"{name} is exported: tell CASES how to build and feed it"
    made = PUBLIC[name](**{**CASES[name].options, **options})
    return made.set_random_state(7) if isinstance(made, Randomizable) else made


def feed(name: str, wrap: Callable[[np.ndarray], Any], folder: Path) -> tuple[Any, ...]:
    """Arguments for one call."""
    case = CASES[name]
    draw, file = (head_volume, "volume.nii.gz") if case.volume else (head_slice, "slice.npy")
    values = {
        key: folder / file if case.files else wrap(draw("mri" if key in ("mri", "pred") else "ct"))
        for key in case.inputs
    }
    if issubclass(PUBLIC[name], MapTransform):
        return ({**values, "subject": "someone", **case.beside},)
    return tuple(values.values())


def tensors(name: str, result: Any) -> dict[str, Any]:
    """The tensors a call made, by name."""
    case = CASES[name]
    if isinstance(result, list):
        return {f"{key} {index}": one[key] for index, one in enumerate(result) for key in case.outputs or case.inputs}
    return {key: result[key] for key in case.outputs or case.inputs} if isinstance(result, dict) else {"": result}


def assert_same(name: str, one: Any, other: Any) -> None:
    for key, value in tensors(name, one).items():
        np.testing.assert_array_equal(np.asarray(value), np.asarray(tensors(name, other)[key]), err_msg=f"{name} {key}")


def test_cases_name_only_what_is_exported():
    assert sorted(CASES) == sorted(PUBLIC)


def test_every_transform_of_a_module_is_exported():
    for info in pkgutil.iter_modules(transforms.__path__):
        module = importlib.import_module(f"monai_ctmri.transforms.{info.name}")
        for name in module.__all__:
            if inspect.isclass(getattr(module, name)) and issubclass(getattr(module, name), Transform):
                assert name in transforms.__all__, f"{info.name}.{name}"


@every_transform
def test_any_array_in_float32_meta_tensor_out(name: str, files: Path):
    results = {kind: build(name)(*feed(name, wrap, files)) for kind, wrap in CONTAINERS.items()}
    for kind, result in results.items():
        assert_same(name, result, results["numpy"])
        for key, value in tensors(name, result).items():
            assert isinstance(value, MetaTensor), f"{kind} {key}: {type(value)}"
            assert value.dtype == torch.float32, f"{kind} {key}"
            assert value.shape == CASES[name].shape, f"{kind} {key}"
            assert torch.isfinite(value).all(), f"{kind} {key}"


@every_transform
def test_input_is_not_changed(name: str, files: Path):
    for wrap in CONTAINERS.values():
        arguments = feed(name, wrap, files)
        before = copy.deepcopy(arguments)
        build(name)(*arguments)
        for now, then in zip(arguments, before, strict=True):
            for key in then if isinstance(then, dict) else [...]:
                a, b = (now[key], then[key]) if isinstance(then, dict) else (now, then)
                if isinstance(b, np.ndarray | torch.Tensor):
                    np.testing.assert_array_equal(np.asarray(a), np.asarray(b))
                    assert getattr(a, "applied_operations", []) == getattr(b, "applied_operations", [])
                    assert set(getattr(a, "meta", {})) == set(getattr(b, "meta", {}))
                else:
                    assert a == b
            if isinstance(then, dict):
                assert list(now) == list(then)


@pytest.mark.parametrize("name", sorted(name for name in PUBLIC if name not in CASES or not CASES[name].files))
def test_meta_of_the_input_stays(name: str, files: Path):
    wrap = lambda array: MetaTensor(array, meta={"filename_or_obj": "slice.png", "windowed": False})  # noqa: E731
    for value in tensors(name, build(name)(*feed(name, wrap, files))).values():
        assert value.meta["filename_or_obj"] == "slice.png"


@every_transform
def test_same_seed_same_result(name: str, files: Path):
    arguments = feed(name, np.array, files)
    assert_same(name, build(name)(*arguments), build(name)(*arguments))


# One donor, or one channel, which is never dropped: nothing is drawn.
UNVARIED = {"InjectFlipd", "InjectWrongPaird", "InjectWrongSliced", "RandModalityDropout", "RandModalityDropoutd"}


@pytest.mark.parametrize("name", sorted(set(RANDOM) - UNVARIED))
def test_other_seed_other_result(name: str, files: Path):
    arguments = feed(name, np.array, files)
    one, other = (build(name).set_random_state(seed)(*arguments) for seed in (7, 8))
    with pytest.raises(AssertionError):
        assert_same(name, one, other)


@every_transform
def test_global_random_state_is_left_alone(name: str, files: Path):
    def states() -> tuple[Any, ...]:
        kind, numbers, *rest = np.random.get_state()  # noqa: NPY002
        return kind, tuple(numbers), *rest, random.getstate(), tuple(torch.get_rng_state().tolist())

    before = states()
    build(name)(*feed(name, np.array, files))
    assert states() == before


@every_transform
def test_pickled_copy_gives_the_same(name: str, files: Path):
    arguments = feed(name, np.array, files)
    made = build(name)
    restored = pickle.loads(pickle.dumps(made))
    for _ in range(2):
        assert_same(name, made(*arguments), restored(*arguments))


@pytest.mark.parametrize("name", sorted(set(PUBLIC) - {"RegisterToReference", "ResidualMap"}))  # Compose hands over one
def test_works_in_compose(name: str, files: Path):
    arguments = feed(name, np.array, files)
    one, other = (Compose([build(name)]).set_random_state(3)(*arguments) for _ in range(2))
    assert_same(name, one, other)


@every_transform
def test_plain_tensor_without_metadata_tracking(name: str, files: Path):
    set_track_meta(False)
    try:
        result = build(name)(*feed(name, torch.tensor, files))
    finally:
        set_track_meta(True)
    for value in tensors(name, result).values():
        assert type(value) is torch.Tensor


@pytest.mark.parametrize("name", DICTIONARY)
def test_missing_keys(name: str, files: Path):
    case = CASES[name]
    optional = case.inputs if case.optional is None else case.optional
    (data,) = feed(name, np.array, files)
    for key in optional:
        del data[key]
    allowing = build(name, allow_missing_keys=True)(data)
    (allowing,) = allowing if isinstance(allowing, list) else (allowing,)
    assert allowing["subject"] == "someone"
    if optional:
        assert optional[0] not in allowing
        with pytest.raises(KeyError):
            build(name, allow_missing_keys=False)(data)


@pytest.mark.parametrize("name", DICTIONARY)
def test_aliases(name: str):
    assert name.endswith("d")
    for alias in (f"{name[:-1]}D", f"{name[:-1]}Dict"):
        assert getattr(transforms, alias) is PUBLIC[name]
        assert alias in transforms.__all__


@every_transform
def test_documented_with_backend(name: str):
    assert PUBLIC[name].__doc__
    assert PUBLIC[name].backend


def _monai_classes() -> Iterator[str]:
    for room in MONAI_ROOMS:
        yield from (name for name, _ in inspect.getmembers(importlib.import_module(f"monai.{room}"), inspect.isclass))


def test_no_name_of_monai_is_taken():
    """MONAI resolves bare class names over every loaded module that starts with ``monai``, hence over ours too."""
    ours = {name for name in transforms.__all__ if inspect.isclass(getattr(transforms, name))}
    assert not ours & set(_monai_classes())


MOVES = {"AxialSlicesd", "MidsagittalAlign", "MidsagittalAlignd", "SliceLevel", "SliceLeveld"}
"""Their results lie on another grid than their input: slices, the aligned head, a number."""


@pytest.mark.parametrize("name", sorted(name for name in PUBLIC if name not in MOVES and not CASES[name].files))
def test_place_and_history_of_the_input_stay(name: str, files: Path):
    """Affine and the record of invertible operations of a MetaTensor come out as they went in, or longer."""
    affine = torch.diag(torch.tensor([1.5, 1.5, 1.0, 1.0], dtype=torch.float64))
    history = {"class": "Earlier", "id": 1, "orig_size": (96, 96)}

    def wrap(array: np.ndarray) -> MetaTensor:
        return MetaTensor(array, affine=affine, applied_operations=[history])

    for key, value in tensors(name, build(name)(*feed(name, wrap, files))).items():
        np.testing.assert_allclose(value.affine.numpy(), affine.numpy(), err_msg=key)
        if key in ("", *CASES[name].inputs):
            assert value.applied_operations[0]["class"] == "Earlier", key


@pytest.mark.parametrize("name", DICTIONARY)
def test_works_in_cached_data_sets(name: str, files: Path, tmp_path: Path):
    (data,) = feed(name, np.array, files)
    direct = build(name)(dict(data))
    for dataset in (
        CacheDataset([data], Compose([build(name)]), progress=False),
        PersistentDataset([data], Compose([build(name)]), cache_dir=tmp_path),
    ):
        assert tensors(name, dataset[0]).keys() == tensors(name, direct).keys()
        if name not in RANDOM:
            assert_same(name, dataset[0], direct)


def test_all_work_in_a_spawned_worker(files: Path):
    """One worker process, started afresh, runs every transform that takes one input."""
    chosen = [name for name in sorted(PUBLIC) if name not in ("RegisterToReference", "ResidualMap")]
    everything = ConcatDataset([Dataset(list(feed(name, np.array, files)), build(name)) for name in chosen])
    loader = DataLoader(
        everything, batch_size=1, num_workers=1, multiprocessing_context="spawn", collate_fn=no_collation
    )
    results = list(loader)
    assert len(results) == len(chosen)
    for name, (result,) in zip(chosen, results, strict=True):
        for key, value in tensors(name, result).items():
            assert value.shape == CASES[name].shape, f"{name} {key}"
