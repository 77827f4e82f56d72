"""Settings, and the run folder that belongs to one set of them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from monai_ctmri.data.manifest import Case, Manifest
from monai_ctmri.errors import InputError
from monai_ctmri.evaluation.settings import BenchmarkSettings

DIVIDED = Manifest(Case(f"c{i}", f"s{i}", ct=Path(f"/data/c{i}.png"), label=0, split="train") for i in range(3))


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"image_size": 30}, "image size 30"),
        ({"image_size": 28}, "image size 28"),
        ({"alpha": 0.0}, "alpha"),
        ({"alpha": 1.0}, "alpha"),
        ({"alpha": float("nan")}, "alpha"),
        ({"max_epochs": 0}, "max_epochs"),
        ({"batch_size": 0}, "batch_size"),
        ({"repeats": 0}, "repeats"),
        ({"patience": 0}, "patience"),
        ({"seed": -1}, "seed"),
        ({"min_steps": -1}, "min_steps"),
        ({"learning_rate": 0.0}, "learning rate"),
        ({"learning_rate": float("nan")}, "learning rate"),
        ({"detectors": "IForest,Oracle"}, "'Oracle' is none"),
        ({"detectors": ""}, "detectors"),
    ],
)
def test_values_out_of_range_are_refused_in_one_line(wrong, named):
    with pytest.raises(InputError, match=named) as caught:
        BenchmarkSettings(**wrong)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("size", [32, 64, 100, 256])
def test_image_sizes_divisible_by_four_are_taken(size):
    assert BenchmarkSettings(image_size=size).image_size == size


@pytest.mark.parametrize(
    ("cases", "expected"),
    [
        (16, 400),  # one step an epoch
        (17, 200),  # two
        (160, 40),  # ten
        (161, 37),  # eleven: 400 / 11 = 36.4
        (16_000, 20),  # 1000 steps an epoch: max_epochs stands
        (0, 400),
    ],
)
def test_small_training_sets_get_more_epochs(cases, expected):
    assert BenchmarkSettings(min_steps=400).epochs_for(cases) == expected


def test_without_min_steps_the_epochs_are_max_epochs():
    assert BenchmarkSettings(max_epochs=7).epochs_for(1) == 7


def test_a_new_folder_gets_settings_and_division(tmp_path):
    settings = BenchmarkSettings(seed=4, learning_rate=3e-4)
    settings.claim(tmp_path / "run", tmp_path / "m.csv", DIVIDED, ("mri",))
    content = yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())
    assert content == {"manifest": str(tmp_path / "m.csv"), "modalities": ["mri"], "settings": settings.as_dict()}
    assert BenchmarkSettings(**content["settings"]) == settings
    assert Manifest.read(tmp_path / "run") == DIVIDED
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == ["config.yaml", "manifest.csv"]


def test_the_same_run_is_taken_again(tmp_path, monkeypatch):
    BenchmarkSettings().claim(tmp_path / "run", tmp_path / "m.csv", DIVIDED)
    before = {path: path.read_bytes() for path in (tmp_path / "run").iterdir()}
    monkeypatch.chdir(tmp_path)
    BenchmarkSettings().claim("run", "m.csv", DIVIDED)
    assert {path: path.read_bytes() for path in (tmp_path / "run").iterdir()} == before


@pytest.mark.parametrize(
    "change",
    [{"seed": 1}, {"alpha": 0.1}, {"max_epochs": 21}, {"image_size": 64}, {"bf16": True}, {"learning_rate": 1.1e-3}],
)
def test_a_folder_of_other_settings_is_refused(tmp_path, change):
    BenchmarkSettings().claim(tmp_path, "m.csv", DIVIDED)
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(InputError, match=r"config\.yaml.*other settings"):
        BenchmarkSettings(**change).claim(tmp_path, "m.csv", DIVIDED)
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_a_folder_of_another_manifest_is_refused(tmp_path):
    BenchmarkSettings().claim(tmp_path, "m.csv", DIVIDED)
    with pytest.raises(InputError, match=r"config\.yaml"):
        BenchmarkSettings().claim(tmp_path, "n.csv", DIVIDED)


@pytest.mark.parametrize(
    "other",
    [
        Manifest(DIVIDED[:2]),
        DIVIDED.with_splits({"s1": "test"}),
        Manifest([replace(DIVIDED[0], label=1), *DIVIDED[1:]]),
        Manifest([replace(DIVIDED[0], ct=Path("/data/other.png")), *DIVIDED[1:]]),
    ],
    ids=["fewer", "divided", "label", "file"],
)
def test_a_manifest_that_changed_under_the_same_name_is_refused(tmp_path, other):
    """Else the network that is continued may have been trained on who is tested now."""
    BenchmarkSettings().claim(tmp_path, "m.csv", DIVIDED)
    with pytest.raises(InputError, match=r"manifest\.csv.*other cases"):
        BenchmarkSettings().claim(tmp_path, "m.csv", other)
    assert Manifest.read(tmp_path) == DIVIDED


def test_the_users_own_manifest_is_not_written_over(tmp_path):
    """A run folder that is the data folder."""
    DIVIDED.with_splits(dict.fromkeys(DIVIDED.subjects)).write_csv(tmp_path / "manifest.csv")
    before = (tmp_path / "manifest.csv").read_bytes()
    with pytest.raises(InputError, match=r"manifest\.csv"):
        BenchmarkSettings().claim(tmp_path, tmp_path / "manifest.csv", DIVIDED)
    assert (tmp_path / "manifest.csv").read_bytes() == before
    assert not (tmp_path / "config.yaml").exists()


@pytest.mark.parametrize("content", [b"", b"a: [", b"\xff\xfe", b"other: tool\n"])
def test_any_other_config_file_is_refused_and_kept(tmp_path, content):
    (tmp_path / "config.yaml").write_bytes(content)
    with pytest.raises(InputError, match=r"config\.yaml"):
        BenchmarkSettings().claim(tmp_path, "m.csv", DIVIDED)
    assert (tmp_path / "config.yaml").read_bytes() == content
