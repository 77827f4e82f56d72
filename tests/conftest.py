"""Fixtures shared by all tests."""

from __future__ import annotations

import csv
import io
import os
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

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


@pytest.fixture(scope="session")
def phantom_manifest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Nine small phantom subjects of three slices each: a division gives 5 / 1 / 1 / 2 of them to the four parts."""
    from monai_ctmri.data.phantom import write_phantom

    return write_phantom(tmp_path_factory.mktemp("phantom"), 9, size=64, slices=3)


def _finished(manifest: Path, out: Path) -> SimpleNamespace:
    from monai_ctmri.evaluation.benchmark import run_benchmark
    from monai_ctmri.evaluation.results import count_results, scores_table
    from monai_ctmri.evaluation.settings import BenchmarkSettings
    from monai_ctmri.report.benchmark_report import write_benchmark_report

    settings = BenchmarkSettings(image_size=64, max_epochs=1, repeats=50, alpha=0.3)
    run = run_benchmark(manifest, out, settings)
    results = count_results(run, title="Title <1>", subtitle="Subtitle", command="command --out x", phantom=True)
    rows = list(csv.DictReader(io.StringIO(scores_table(run))))
    report = write_benchmark_report(run, results, out)
    return SimpleNamespace(
        manifest=manifest, out=out, settings=settings, run=run, results=results, rows=rows, report=report
    )


@pytest.fixture(scope="session")
def phantom_benchmark(phantom_manifest: Path, tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """A finished benchmark on the phantom, with its report: ``manifest, out, settings, run, results, rows, report``."""
    return _finished(phantom_manifest, tmp_path_factory.mktemp("benchmark") / "run")


@pytest.fixture(scope="session")
def few_subjects_manifest(phantom_manifest: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two normal subjects and one with two of three slices abnormal: a bright disc is painted in, its mask given.

    The pictures are not square: 60 rows, 52 columns.
    """
    import numpy as np
    from PIL import Image

    from monai_ctmri.data.manifest import Manifest

    folder, cases = tmp_path_factory.mktemp("few"), []
    phantom = Manifest.read(phantom_manifest)
    rows, columns = np.mgrid[:60, :52]
    disc = (rows - 24) ** 2 + (columns - 32) ** 2 <= 36
    Image.fromarray(np.uint8(255 * disc)).save(folder / "disc.png")
    for number, case in enumerate(phantom.select(subjects=phantom.subjects[:3])):
        files, abnormal = {}, number in (7, 8)
        for name in ("ct", "mri"):
            pixels = np.asarray(Image.open(getattr(case, name)))[2:62, 6:58]
            files[name] = folder / f"{case.name}_{name}.png"
            Image.fromarray(np.where(disc & abnormal, np.uint8(255), pixels)).save(files[name])
        changes = {"label": int(abnormal), "mask": folder / "disc.png" if abnormal else None}
        cases.append(replace(case, **files, **changes))
    Manifest(cases).write_csv(folder / "manifest.csv")
    return folder / "manifest.csv"


@pytest.fixture(scope="session")
def few_subjects_benchmark(few_subjects_manifest: Path, tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """As ``phantom_benchmark``, on ``few_subjects_manifest``."""
    return _finished(few_subjects_manifest, tmp_path_factory.mktemp("few_benchmark") / "run")
