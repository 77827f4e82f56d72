"""Hundreds of damaged files: nothing crashes, nothing hangs, nothing is executed, and each is named."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from monai_ctmri.data.checks.inspection import Facts, inspect_file, inspect_files
from monai_ctmri.data.discovery import discover
from monai_ctmri.data.findings import KINDS, read_findings
from monai_ctmri.data.formats import IMAGE_SUFFIXES, kind_of
from monai_ctmri.data.preparation import prepare
from monai_ctmri.data.quarantine import is_quarantined

# Tests are no packages: what they share is loaded by its place.
spec = importlib.util.spec_from_file_location("damaged_files", Path(__file__).with_name("damaged_files.py"))
assert spec is not None
assert spec.loader is not None
damaged_files: Any = importlib.util.module_from_spec(spec)
sys.modules["damaged_files"] = damaged_files
spec.loader.exec_module(damaged_files)

pytestmark = pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")

TIME_LIMIT = 120.0
"""Seconds for one file; a good one of this size takes some milliseconds."""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, series_writer: Callable[..., list[Path]]) -> list[Any]:
    root = tmp_path_factory.mktemp("fuzz")
    return list(
        damaged_files.Damager(root / "damaged", damaged_files.good_formats(root / "good", series_writer)).everything()
    )


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory, series_writer: Callable[..., list[Path]]) -> dict[str, Path]:
    return dict(damaged_files.good_formats(tmp_path_factory.mktemp("good"), series_writer))


def test_the_good_files_are_good(good: dict[str, Path]) -> None:
    assert {kind_of(path) for path in good.values()} == {"picture", "array", "volume", "dicom"}
    for path in good.values():
        facts = inspect_file(path)
        assert (facts.problem, facts.findings) == (None, ())


def test_the_damages_are_many_and_of_every_kind(made: list[Any]) -> None:
    counts = Counter(one.damage for one in made)
    assert len(made) >= 500
    assert all(counts[damage] == 19 * damaged_files.PER_FORMAT for damage in damaged_files.MIXED_MODES)
    for damage in ("zero_length", "folder", "pipe"):
        assert counts[damage] == len(IMAGE_SUFFIXES)
    assert counts["huge_header"] >= 40
    assert counts["not_finite"] >= 30
    assert counts["affine"] >= 30


def test_every_damaged_file_is_a_finding(made: list[Any], capfd: pytest.CaptureFixture[str]) -> None:
    seen: list[tuple[int, int]] = []
    facts = inspect_files(
        [(one.path, None) for one in made], 2, lambda *numbers: seen.append(numbers), time_limit=TIME_LIMIT
    )
    assert [one.path for one in facts] == [one.path for one in made]
    assert all(isinstance(one, Facts) for one in facts)
    assert seen[-1] == (len(made), len(made))
    for one, told in zip(made, facts, strict=True):
        found = [each for each in (told.problem, *told.findings) if each is not None]
        if one.surely_bad:
            assert found, one
        for finding in found:
            assert finding.kind in KINDS
            assert finding.measure, one
            assert "\n" not in finding.measure
            assert "process down" not in finding.measure, one
            assert "too long" not in finding.measure, one
        if told.problem is None:
            assert np.isfinite([told.minimum, told.maximum, told.mean, told.std]).all(), one
    assert not list(made[0].path.parents[2].rglob("executed"))
    assert capfd.readouterr().out == ""


def test_each_damage_is_called_what_it_is(made: list[Any]) -> None:
    named = {"not_finite": "not_finite", "zero_length": "truncated", "truncated": "truncated"}
    for damage, kind in named.items():
        kinds = Counter(
            facts.problem.kind
            for one in made
            if one.damage == damage and (facts := inspect_file(one.path)).problem is not None
        )
        # What is cut inside a header may look like no image at all.
        assert kinds[kind] >= 0.9 * sum(kinds.values()), (damage, kinds)


def test_every_reader_refuses_in_one_line(made: list[Any], capfd: pytest.CaptureFixture[str]) -> None:
    problems = {str(one): wrong for one in made if (wrong := damaged_files.open_in_every_way(one.path))}
    assert problems == {}
    assert not list(made[0].path.parents[2].rglob("executed"))
    assert capfd.readouterr().out == ""


MEASURE = """
import resource, sys, warnings
from pathlib import Path
warnings.simplefilter("ignore")
from monai_ctmri.data.checks.inspection import inspect_file
from monai_ctmri.data.trees.content import grid_of, read_plane
from monai_ctmri.errors import InputError

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024  # MiB

good, *bombs = map(Path, sys.argv[1:])
for path in good.iterdir():  # what decoders need is loaded
    inspect_file(path)
now = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (now + (1 << 30), now + (1 << 30)))
before = peak()
for path in bombs:
    facts = inspect_file(path)
    for reader in (grid_of, read_plane):
        try:
            reader(path)
        except InputError:
            pass
    print(path.name, facts.problem.kind if facts.problem else "read")
print("grown", peak() - before)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="measures memory as Linux tells it")
def test_bombs_take_no_memory(tmp_path: Path, good: dict[str, Path], repository: Path) -> None:
    """Each of some MB unpacks to 3 GB: in its voxels, before or behind them, in a header or in a comment."""
    planted = list(damaged_files.bombs(tmp_path / "bombs", good))
    assert all(one.path.stat().st_size < 16e6 for one in planted)
    began = time.monotonic()
    run = subprocess.run(
        [sys.executable, "-c", MEASURE, good["png8"].parent, *(one.path for one in planted)],
        capture_output=True,
        text=True,
        cwd=repository,
        timeout=100,
    )
    assert run.returncode == 0, run.stderr[-2000:]
    *told, grown = run.stdout.splitlines()
    assert [line.split()[0] for line in told] == [one.path.name for one in planted]
    for one, line in zip(planted, told, strict=True):
        assert not one.surely_bad or not line.endswith(" read"), line
    assert int(grown.split()[1]) < 400
    assert time.monotonic() - began < 60


def test_a_folder_of_loops_and_pipes_ends(tmp_path: Path, good: dict[str, Path]) -> None:
    shutil.copy(good["png8"], tmp_path / "ct_1.png")
    (tmp_path / "below" / "deep").mkdir(parents=True)
    (tmp_path / "below" / "deep" / "up").symlink_to(tmp_path, target_is_directory=True)
    (tmp_path / "ct_2.png").symlink_to(tmp_path / "ct_3.png")
    (tmp_path / "ct_3.png").symlink_to(tmp_path / "ct_2.png")
    (tmp_path / "ct_self.png").symlink_to(tmp_path / "ct_self.png")
    os.mkfifo(tmp_path / "ct_4.png")
    os.mkfifo(tmp_path / "IM0001")
    (tmp_path / "ct_5.png").mkdir()
    found = discover(tmp_path)
    assert [case.ct for case in found.cases] == [tmp_path / "ct_1.png"]
    assert {path.name for path, reason in found.ignored if reason} == {
        "up", "ct_2.png", "ct_3.png", "ct_self.png", "ct_4.png", "IM0001",
    }  # fmt: skip


@pytest.mark.parametrize("workers", [1, 2])
def test_preparing_a_folder_with_forty_damaged_files(
    tmp_path: Path, made: list[Any], phantom_manifest: Path, workers: int
) -> None:
    root = tmp_path / "data" / "ct"
    root.mkdir(parents=True)
    slices = sorted((phantom_manifest.parent / "ct").iterdir())[::2][:10]
    whole = [Path(shutil.copy(path, root / f"good_{path.name}")) for path in slices]
    bad = [one for one in made if one.surely_bad and one.path.suffix not in (".dcm", ".ima")]
    chosen = [bad[index] for index in np.linspace(0, len(bad) - 1, 40).astype(int)]
    damaged = []
    for number, one in enumerate(chosen):
        target = root / f"bad{number}_{one.path.name}"
        damaged.append(target)
        if one.damage == "link":
            target.symlink_to(os.readlink(one.path))
        elif one.damage == "folder":
            target.mkdir()
            Image.new("L", (9, 9)).save(target / "a.png")
            damaged[-1] = target / "a.png"
        elif one.damage == "pipe":
            os.mkfifo(target)
        else:
            shutil.copy(one.path, target)
    prepared = prepare(root.parent, tmp_path / "out" / "manifest.csv", workers=workers)
    assert {case.ct for case in prepared.manifest if not is_quarantined(case)} >= set(whole)
    found = {finding.file for finding in prepared.findings}
    left_out = {path for path, _ in discover(root.parent).ignored}
    assert [path for path in damaged if path not in found | left_out] == []
    assert tuple(read_findings(tmp_path / "out" / "findings.csv")) == prepared.findings
    usable = {path for case in prepared.manifest if not is_quarantined(case) for path in (case.ct, case.mri) if path}
    assert not usable & set(damaged)
