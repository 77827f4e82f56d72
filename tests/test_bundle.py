"""Bundles are found in a wheel first, then in a checkout; an unknown one is named."""

from __future__ import annotations

from pathlib import Path

import pytest

from monai_ctmri import bundle
from monai_ctmri.errors import InputError


def make(home: Path, name: str) -> Path:
    (home / name / "configs").mkdir(parents=True)
    (home / name / "configs" / "metadata.json").write_text("{}")
    return home / name


def test_checkout(repository: Path) -> None:
    assert bundle.bundle_root("brain_ctmri_autoencoder") == repository / "bundles" / "brain_ctmri_autoencoder"


def test_wheel_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bundle, "_PACKAGE", tmp_path / "monai_ctmri")
    checkout = make(tmp_path / "bundles", "one")
    assert bundle.bundle_root("one") == checkout
    wheel = make(tmp_path / "monai_ctmri" / "bundles", "one")
    assert bundle.bundle_root("one") == wheel


@pytest.mark.parametrize("name", ["nothing", "", ".", "..", "../one", "/one", "a/one"])
def test_unknown_names_the_known(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bundle, "_PACKAGE", tmp_path / "monai_ctmri")
    make(tmp_path / "bundles", "one")
    with pytest.raises(InputError, match=r"not found; choose one of: one$"):
        bundle.bundle_root(name)


def test_without_any_bundle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bundle, "_PACKAGE", tmp_path / "monai_ctmri")
    with pytest.raises(InputError, match="none is installed"):
        bundle.bundle_root("one")
