"""What the continuous integration of MONAI's model zoo checks of a bundle, for each of ours; export is tested apart."""

from __future__ import annotations

import builtins
import json
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import package_imports
import pytest
import torch
import yaml
from bundle_runs import BUNDLES, SCHEMA, bundle_folders, config_files, metadata_of, rows_of
from bundle_runs import workflow as workflow_of
from combinations import COMBINATIONS, DISTRIBUTED, VOLUMES, tiny
from monai.bundle import ConfigParser, verify_metadata, verify_net_in_out
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

import monai_ctmri

FOLDERS = bundle_folders()
NAMES = [folder.name for folder in FOLDERS]

READ_BY_MONAI = {"imports", "initialize", "run", "finalize", "train", "validate", "bundle_root", "dataset_dir"}
KINDS = {"", ".yaml", ".json", ".conf", ".md", ".pt"}
KEYS = {
    *("schema", "version", "changelog", "monai_version", "pytorch_version", "numpy_version"),
    *("required_packages_version", "supported_apps", "name", "task", "description", "authors", "copyright"),
    *("data_source", "data_type", "image_classes", "pred_classes", "eval_metrics", "intended_use", "references"),
    "network_data_format",
}


@pytest.fixture(scope="module", params=NAMES)
def bundle(request: pytest.FixtureRequest) -> Path:
    return BUNDLES / request.param


def configurations(bundle: Path) -> set[str]:
    return {path.stem for path in (bundle / "configs").glob("*.yaml")}


@pytest.fixture(scope="module")
def finished(bundle: Path, cohort: Path, tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """Every combination run: its wrong properties, its output folder, and what our modules imported meanwhile."""
    done: dict[str, SimpleNamespace] = {}
    called: set[str] = set()
    original = builtins.__import__

    def importing(name: str, scope: Any = None, local: Any = None, fromlist: Any = (), level: int = 0) -> Any:
        if level == 0 and (scope or {}).get("__name__", "").startswith("monai_ctmri"):
            called.update({name, *(f"{name}.{one}" for one in fromlist or ())})
        return original(name, scope, local, fromlist, level)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(builtins, "__import__", importing)
        for line in COMBINATIONS[bundle.name]:
            output_dir = tmp_path_factory.mktemp(bundle.name)
            for files in line:
                made = workflow_of(bundle, files, **tiny(bundle, files, cohort, output_dir))
                wrong = made.check_properties()
                made.run()
                made.finalize()
                done.setdefault(files, SimpleNamespace(wrong=wrong, output_dir=output_dir))
    return SimpleNamespace(runs=done, called=called)


def test_files(bundle: Path) -> None:
    wanted = ("LICENSE", "docs/README.md", "configs/logging.conf", "configs/train.yaml", "configs/inference.yaml")
    assert [name for name in wanted if not (bundle / name).is_file()] == []
    assert "Apache License" in (bundle / "LICENSE").read_text()
    assert re.fullmatch(r"[a-z][a-z0-9_]+", bundle.name)
    for path in (*bundle.glob("configs/*"), *bundle.glob("docs/*.md")):
        assert not re.search(r"(/home|/work|/root|/Users|C:)[/\\]", path.read_text()), (
            f"{path} names a place of its author"
        )
    assert {path.suffix for path in bundle.rglob("*") if path.is_file()} <= {
        "",
        ".yaml",
        ".json",
        ".conf",
        ".md",
        ".pt",
        ".npz",
    }


def test_weights_that_come_along_are_those_of_the_configuration(bundle: Path) -> None:
    weights = bundle / "models" / "model.pt"
    promised = "## Weights" in (bundle / "docs" / "README.md").read_text()
    assert weights.is_file() == promised, "the README tells how the weights came about, where there are some"
    if promised:
        parser = ConfigParser()
        parser.read_config(config_files(bundle, "inference"))
        parser.get_parsed_content("network_def").load_state_dict(torch.load(weights, weights_only=True))
        assert weights.stat().st_size < 25e6, "the zoo keeps larger ones in large_files.yml"


def test_metadata(bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "schema.json").write_text(json.dumps(SCHEMA))
    verify_metadata(meta_file=str(bundle / "configs" / "metadata.json"), filepath=str(tmp_path / "schema.json"))
    known = metadata_of(bundle)
    assert KEYS - set(known) == set()
    assert known["version"] in known["changelog"]
    assert known["schema"].startswith("https://github.com/Project-MONAI/MONAI-extra-test-data/releases/download/")
    formats = known["network_data_format"]
    assert "image" in formats["inputs"]
    assert "pred" in formats["outputs"]
    for tensor in (*formats["inputs"].values(), *formats["outputs"].values()):
        assert {"modality", "is_patch_data", "channel_def"} <= set(tensor)
        assert len(tensor["channel_def"]) == tensor["num_channels"]


def test_metadata_without_a_dtype_are_refused(bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "schema.json").write_text(json.dumps(SCHEMA))
    known = metadata_of(bundle)
    del known["network_data_format"]["outputs"]["pred"]["dtype"]
    (tmp_path / "metadata.json").write_text(json.dumps(known))
    with pytest.raises(ValueError, match="dtype"):
        verify_metadata(meta_file=str(tmp_path / "metadata.json"), filepath=str(tmp_path / "schema.json"))


def test_network_fits_its_metadata(bundle: Path) -> None:
    for name in ("train", "inference"):
        verify_net_in_out(
            net_id="network_def",
            meta_file=str(bundle / "configs" / "metadata.json"),
            config_file=config_files(bundle, name)[0],
            device="cpu",
        )


def test_every_configuration_is_in_a_combination(bundle: Path) -> None:
    combined = [files for line in (*COMBINATIONS[bundle.name], DISTRIBUTED) for files in line]
    assert {name for files in combined for name in files.split("+")} == configurations(bundle)


def test_every_combination_runs_and_has_its_properties(bundle: Path, finished: SimpleNamespace) -> None:
    expected = {files for line in COMBINATIONS[bundle.name] for files in line}
    assert set(finished.runs) == expected
    assert {files: one.wrong for files, one in finished.runs.items() if one.wrong != []} == {}
    for files, one in finished.runs.items():
        folder = "inference" if files.startswith("inference") else "evaluation" if "evaluate" in files else "models"
        assert list((one.output_dir / folder).iterdir()), files


def test_every_case_is_scored_once(cohort: Path, finished: SimpleNamespace) -> None:
    for files, one in finished.runs.items():
        if files.startswith("inference"):
            cases = [row["case"] for row in rows_of(one.output_dir / "inference" / "scores.csv")]
            assert sorted(cases) == sorted(set(cases)), files
            assert len(cases) == (5 if VOLUMES in files else len(rows_of(cohort / "manifest.csv"))), files


def values_of(path: str) -> set[str]:
    """Ids that a configuration sets at its top."""
    return {name.lstrip("+").partition("#")[0] for name in yaml.safe_load(Path(path).read_text())}


def test_no_value_is_idle(bundle: Path) -> None:
    """A value that nothing refers to, in no combination its file is part of, is misspelt or forgotten."""
    idle = {path: values_of(path) - READ_BY_MONAI for path in config_files(bundle, "+".join(configurations(bundle)))}
    for files in {files for line in (*COMBINATIONS[bundle.name], DISTRIBUTED) for files in line}:
        paths = config_files(bundle, files)
        if all(path in idle for path in paths):
            parser = ConfigParser()
            parser.read_config(paths)
            used = set(re.findall(r"@(\w+)", json.dumps(parser.get())))
            for path in paths:
                idle[path] -= used
    assert {Path(path).name: names for path, names in idle.items() if names} == {}


def test_an_overlay_says_over_what_it_is_laid(bundle: Path) -> None:
    for name in sorted(configurations(bundle) - {"train", "inference"}):
        first = (bundle / "configs" / f"{name}.yaml").read_text().splitlines()[0]
        assert re.match(r"# Overlay (on|behind) \w+\.yaml", first), f"{name}.yaml"
        for named in re.findall(r"(\w+)\.yaml", first):
            assert named in configurations(bundle), f"{name}.yaml names {named}.yaml"


def pins() -> dict[str, list[Version]]:
    """Versions of constraints.txt, of every Python, by canonical name."""
    found: dict[str, list[Version]] = {}
    for line in (BUNDLES.parent / "constraints.txt").read_text().splitlines():
        if line.strip() and not line.startswith("#"):
            pin = Requirement(line)
            found.setdefault(canonicalize_name(pin.name), []).extend(Version(one.version) for one in pin.specifier)
    return found


def test_required_packages_are_all_and_no_newer_than_tested(bundle: Path, finished: SimpleNamespace) -> None:
    known = metadata_of(bundle)
    listed = {canonicalize_name(name): Version(text) for name, text in known["required_packages_version"].items()}
    assert package_imports.needed_packages(bundle, finished.called) - set(listed) == set()
    tested = {**pins(), "monai-ctmri": [Version(monai_ctmri.__version__)]}
    assert [name for name, version in listed.items() if version > max(tested[name])] == []
    for name, key in (("monai", "monai_version"), ("torch", "pytorch_version"), ("numpy", "numpy_version")):
        assert Version(known[key]) in tested[name], key


def test_the_search_for_packages_finds_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "monai_ctmri" / "room"
    package.mkdir(parents=True)
    (package.parent / "__init__.py").write_text("")
    (package / "__init__.py").write_text("from .first import A\n")
    (package / "first.py").write_text(
        "import os\nfrom PIL import Image\nfrom . import second\nclass One:\n    import yaml\n"
    )
    (package / "second.py").write_text(
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import scipy\ntry:\n    import tqdm.auto\n"
        "except ImportError:\n    pass\ndef late():\n    import itk\n"
    )
    monkeypatch.setattr(package_imports, "PACKAGE", package.parent)
    assert package_imports.outside_imports({"monai_ctmri.room.A"}) == {"PIL", "yaml", "tqdm"}
    assert package_imports.outside_imports({"monai_ctmri.room.second", "itk.Image"}) == {"PIL", "yaml", "tqdm", "itk"}
