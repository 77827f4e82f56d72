"""Every kind of finding on files made to have it, and only on those; rates on real images."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import gaussian_filter

from monai_ctmri.data.checks.inspection import Facts, inspect_file, inspect_files
from monai_ctmri.data.findings import Finding
from monai_ctmri.data.looking.appearance import CUT_OFF_LIMIT, TEXT_LIMIT, Appearance
from monai_ctmri.data.manifest import Case, Manifest
from monai_ctmri.data.quality import CHANNEL_LIMIT, find_problems, is_blank, known_subjects, look_alikes
from monai_ctmri.errors import InputError

PLAIN = Appearance("mri", 0.03, True, 0.5, 0.0, 0.0)


def tissue(seed: int, size: int = 96) -> np.ndarray:
    smooth = gaussian_filter(np.random.default_rng(seed).standard_normal((size, size)), 4)
    return np.uint8((120 + 40 * smooth / smooth.std()).clip(0, 255))


def save(path: Path, pixels: np.ndarray, **options: Any) -> Path:
    Image.fromarray(pixels).save(path, **options)
    return path


def plain(facts: Sequence[Facts]) -> list[Facts]:
    """Without what random tissue happens to look like."""
    return [replace(one, appearance=None) for one in facts]


def found(*paths: Path) -> list[tuple[str, str, str]]:
    facts = plain([inspect_file(path) for path in paths])
    return [(finding.file.name, finding.kind, finding.measure) for finding in find_problems(facts)]


def kinds(*facts: Facts, stated: str | None = "mri") -> list[str]:
    return [finding.kind for finding in find_problems(facts, [stated] * len(facts))]


@pytest.fixture
def good(tmp_path: Path) -> Facts:
    return replace(inspect_file(save(tmp_path / "good.png", tissue(0))), appearance=PLAIN)


# --- a file alone -----------------------------------------------------------------------------------------------------


def test_good_files_have_no_finding(tmp_path: Path, good: Facts) -> None:
    assert found(*(save(tmp_path / f"{seed}.png", tissue(seed)) for seed in range(8))) == []
    assert kinds(good) == []


def test_unreadable_files_are_passed_on_and_judged_no_further(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"noise")
    (tmp_path / "b.png").write_bytes(b"")
    assert [entry[:2] for entry in found(tmp_path / "a.png", tmp_path / "b.png")] == [
        ("a.png", "unreadable"),
        ("b.png", "truncated"),
    ]


@pytest.mark.parametrize("kind", ["unreadable", "truncated", "too_large", "not_finite", "tilted"])
def test_what_a_reader_remarked_is_kept(kind: str) -> None:
    path = Path("a.dcm")
    facts = Facts(path, problem=Finding(path, kind), findings=(Finding(path, "uneven_spacing"),))
    assert kinds(facts) == [kind, "uneven_spacing"]


def test_remarks_about_a_readable_volume_are_kept(good: Facts) -> None:
    remarks = (Finding(good.path, "implausible_hu", "shifted"), Finding(good.path, "resampled"))
    assert kinds(replace(good, findings=remarks)) == ["implausible_hu", "resampled"]


def test_constant_pictures_are_no_duplicates(tmp_path: Path) -> None:
    black = [save(tmp_path / f"{index}.png", np.zeros((20, 20), np.uint8)) for index in range(3)]
    assert found(*black) == [(f"{index}.png", "constant", "0 everywhere") for index in range(3)]


@pytest.mark.parametrize(("share", "blank"), [(0.0, True), (0.008, True), (0.012, False), (0.2, False)])
@pytest.mark.parametrize("background", [0, 90, 255])
def test_blank_is_less_than_a_hundredth_of_the_picture(
    tmp_path: Path, share: float, blank: bool, background: int
) -> None:
    rng = np.random.default_rng(0)
    pixels = (background + rng.integers(-3, 4, (100, 100))).clip(0, 255).astype(np.uint8)
    pixels.ravel()[: int(share * 10_000)] = 128 if background != 90 else 200
    entries = found(save(tmp_path / "a.png", pixels))
    assert [entry[1] for entry in entries] == (["blank"] if blank else [])


def test_blank_pictures_are_no_near_duplicates(tmp_path: Path) -> None:
    pixels = np.zeros((100, 100), np.uint8)
    pixels[50, 50] = 255
    paths = [save(tmp_path / "a.png", pixels), save(tmp_path / "b.png", np.maximum(pixels, 1))]
    assert [entry[1] for entry in found(*paths)] == ["blank", "blank"]


@pytest.mark.parametrize(
    ("values", "blank"),
    [
        (np.where(np.arange(1000) < 5, 900.0, 0.0), True),
        (np.where(np.arange(1000) < 5, 1000.0, -1000.0), True),
        (np.linspace(-1100, -900, 1000), True),
        (np.linspace(-1000, 1000, 1000), False),
        (np.linspace(0, 1, 1000), False),
        (np.where(np.arange(1000) < 1, 60_000.0, np.linspace(0, 300, 1000)), False),
    ],
)
def test_blank_arrays(tmp_path: Path, values: np.ndarray, blank: bool) -> None:
    np.save(tmp_path / "a.npy", values.reshape(40, 25))
    assert is_blank(inspect_file(tmp_path / "a.npy")) == blank


def test_a_one_bit_picture_is_not_blank(tmp_path: Path) -> None:
    assert not is_blank(inspect_file(save(tmp_path / "a.png", tissue(0) > 120)))
    assert is_blank(inspect_file(save(tmp_path / "b.png", np.arange(1000).reshape(25, 40) == 7)))


def test_unequal_channels(tmp_path: Path) -> None:
    grey = tissue(0)
    tinted = np.stack([grey, grey, (grey + 12.0).clip(0, 255).astype(np.uint8)], axis=-1)
    jpeg = save(tmp_path / "grey.jpg", np.stack([grey] * 3, axis=-1), quality=30)
    entries = found(save(tmp_path / "tinted.png", tinted))
    assert entries == [("tinted.png", "unequal_channels", "mean difference 4.7% of full scale")]
    assert found(jpeg) == []


@pytest.mark.parametrize(
    ("change", "kind"),
    [
        ({"modality": "ct", "ct_likeness": 0.97}, "wrong_modality"),
        ({"text": TEXT_LIMIT}, "burnt_in_text"),
        ({"brain_level": False}, "not_brain_level"),
        ({"cut_off": CUT_OFF_LIMIT}, "cut_off"),
    ],
)
def test_findings_by_sight(good: Facts, change: dict[str, Any], kind: str) -> None:
    assert kinds(replace(good, appearance=replace(PLAIN, **change))) == [kind]


def test_no_finding_below_the_limits_or_in_doubt(good: Facts) -> None:
    look = replace(PLAIN, text=TEXT_LIMIT - 1e-6, cut_off=CUT_OFF_LIMIT - 1e-6, brain_level=None, modality=None)
    assert kinds(replace(good, appearance=look)) == []
    assert kinds(good, stated=None) == []


def test_measures_are_numbers(good: Facts) -> None:
    looks = Appearance("ct", 0.97, False, float("nan"), 0.5, 0.0)
    measures = [finding.measure for finding in find_problems([replace(good, appearance=looks)], {good.path: "mri"})]
    assert measures[0] == "ct-likeness 0.97, stated mri"
    assert not any("nan" in measure for measure in measures)


def test_a_header_that_names_the_modality_is_enough(good: Facts) -> None:
    looks = replace(PLAIN, modality="ct", ct_likeness=1.0)
    told = (Finding(good.path, "wrong_modality", "its header says CT"),)
    assert kinds(replace(good, appearance=looks, findings=told)) == ["wrong_modality"]


def test_modalities_by_path_or_in_order(good: Facts) -> None:
    wrong = replace(good, appearance=replace(PLAIN, modality="ct"))
    assert find_problems([wrong], {good.path: "mri"}) == find_problems([wrong], ["mri"])
    assert find_problems([wrong], {}) == find_problems([wrong]) == []
    with pytest.raises(InputError, match="2 for 1 files"):
        find_problems([wrong], ["mri", "mri"])


# --- copies -----------------------------------------------------------------------------------------------------------


def test_each_later_copy_names_the_first(tmp_path: Path) -> None:
    paths = [save(tmp_path / f"{name}.png", tissue(seed)) for name, seed in (("a", 1), ("b", 2), ("c", 1), ("d", 1))]
    assert found(*paths) == [
        ("c.png", "exact_duplicate", "same as a.png"),
        ("d.png", "exact_duplicate", "same as a.png"),
    ]
    facts = plain([inspect_file(path) for path in paths])
    assert look_alikes(facts) == [[paths[0], paths[2], paths[3]]]


def test_a_near_copy_names_its_partner_and_an_exact_copy_is_only_that(tmp_path: Path) -> None:
    paths = [
        save(tmp_path / "a.png", tissue(1)),
        save(tmp_path / "b.png", tissue(2)),
        save(tmp_path / "c.png", tissue(1)),
        save(tmp_path / "d.jpg", tissue(1), quality=60),
    ]
    entries = found(*paths)
    assert [entry[:2] for entry in entries] == [("c.png", "exact_duplicate"), ("d.jpg", "near_duplicate")]
    distance = entries[1][2].split()
    assert int(distance[1]) <= 24
    assert distance[2:] == ["of", "256", "to", "a.png"]
    facts = plain([inspect_file(path) for path in paths])
    assert look_alikes(facts) == [[paths[0], paths[2], paths[3]]]


def test_exact_copies_of_which_only_one_has_a_near_copy_stay_together(good: Facts) -> None:
    def facts(name: str, digest: str, phash: int) -> Facts:
        return replace(good, path=Path(name), digest=digest, phash=phash)

    ones = (1 << 256) - 1  # one picture stored along other axes has another hash
    groups = look_alikes([facts("a", "x", 0), facts("b", "x", ones), facts("c", "y", 1)])
    assert groups == [[Path("a"), Path("c")], [Path("a"), Path("b")]]


def test_nothing_to_judge() -> None:
    assert find_problems([]) == []
    assert look_alikes([]) == []


# --- real images ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def kaggle(real_data: Path) -> SimpleNamespace:
    root = real_data / "kaggle_sample" / "Dataset" / "images"
    files = [*sorted(root.rglob("*.jpg")), *sorted(root.glob("testA/*.png"))[:20]]
    items = {path: "ct" if path.suffix == ".png" else "mri" for path in files}
    facts = inspect_files([(path, items[path]) for path in files])
    problems = find_problems(facts, items)
    return SimpleNamespace(facts=facts, problems=problems, count=Counter(finding.kind for finding in problems))


def test_the_kaggle_sample_can_be_read(kaggle: SimpleNamespace) -> None:
    assert len(kaggle.facts) == 240
    assert not any(one.problem for one in kaggle.facts)
    assert kaggle.count["blank"] == kaggle.count["constant"] == 0


def test_copies_in_the_kaggle_sample(kaggle: SimpleNamespace) -> None:
    """One exact pair; 26 more MRI files show what another one does, some in another contrast of the same slice."""
    exact = [finding for finding in kaggle.problems if finding.kind == "exact_duplicate"]
    assert [(finding.file.name, finding.measure) for finding in exact] == [("mri2219.jpg", "same as mri1339.jpg")]
    assert 22 <= kaggle.count["near_duplicate"] <= 30
    modalities = [{path.suffix for path in group} for group in look_alikes(kaggle.facts)]
    assert all(len(suffixes) == 1 for suffixes in modalities)


def test_colour_in_the_kaggle_sample(kaggle: SimpleNamespace) -> None:
    """11 of 217 colour files have unequal channels; in 5 the difference is more than rounding."""
    differences = sorted(one.channel_difference for one in kaggle.facts if one.channel_difference > 0)
    assert len(differences) == 11
    assert [value > CHANNEL_LIMIT for value in differences] == [False] * 6 + [True] * 5
    assert differences[5] < 0.5 * CHANNEL_LIMIT
    assert differences[6] > 1.5 * CHANNEL_LIMIT


def test_slices_of_one_known_subject_may_look_alike(tmp_path: Path) -> None:
    pixels = tissue(0)
    paths = [save(tmp_path / f"{n}.png", (pixels * (1 - 0.02 * n)).astype(np.uint8)) for n in range(4)]
    facts = [inspect_file(path) for path in paths]
    whose = dict(zip(paths, ("anna", "anna", "bert", "bert"), strict=True))

    def near(*given) -> list[Finding]:
        return [one for one in find_problems(*given) if one.kind == "near_duplicate"]

    assert [one.file.name for one in near(facts)] == ["1.png", "2.png", "3.png"]
    # Both of bert's look like anna's; that one's own slices do is nothing.
    found = near(facts, None, whose)
    assert [one.file.name for one in found] == ["2.png", "3.png"]
    assert all(one.measure.split()[-1] in ("0.png", "1.png") for one in found)
    assert near(facts, None, dict.fromkeys(paths, "anna")) == []
    assert [one.file for one in near(facts[:2], None, {paths[0]: "anna"})] == [paths[1]]


def test_known_subjects_leave_out_stand_ins(tmp_path: Path) -> None:
    manifest = Manifest(
        [
            Case("a", "anna", ct=tmp_path / "a.png", mri=tmp_path / "b.png"),
            Case("c", "ct-c", ct=tmp_path / "c.png"),
        ]
    )
    assert known_subjects(manifest, {"ct-c"}) == {tmp_path / "a.png": "anna", tmp_path / "b.png": "anna"}
    assert known_subjects(manifest)[tmp_path / "c.png"] == "ct-c"
