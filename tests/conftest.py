"""Fixtures shared by all tests."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def repository() -> Path:
    """Root of the checkout the tests run from."""
    return REPOSITORY


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Folder with the real CT and MRI images; tests that ask for it are skipped where it is absent."""
    folder = Path(os.environ.get("MONAI_CTMRI_TEST_DATA", REPOSITORY.parent / "shared" / "data"))
    if not (folder / "pairs" / "manifest.csv").is_file():
        pytest.skip(f"real images not found in {folder}; set MONAI_CTMRI_TEST_DATA")
    return folder
