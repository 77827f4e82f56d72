"""Each bundle's training and evaluation under torchrun, and that two processes score as one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from bundle_runs import BUNDLES, bundle_folders, config_files, environment, rows_of, run
from combinations import DISTRIBUTED, tiny
from monai.bundle import ConfigParser

FOLDERS = bundle_folders()


@pytest.fixture(scope="module", params=[folder.name for folder in FOLDERS])
def bundle(request: pytest.FixtureRequest) -> Path:
    return BUNDLES / request.param


def exists(bundle: Path, files: str) -> bool:
    return all(Path(path).is_file() for path in config_files(bundle, files))


@pytest.mark.parametrize("files", DISTRIBUTED)
def test_training_and_evaluation_have_a_twin_for_torchrun(files: str, bundle: Path) -> None:
    assert exists(bundle, files)


TIME_LIMIT = 300  # seconds; a process that waits for another for ever shows where
# One group of processes serves all runs: a second one over the same store of torchrun can wait for ever.
TWO_PROCESSES = f"""
import faulthandler, json, sys
import torch.distributed as dist
faulthandler.dump_traceback_later({TIME_LIMIT - 10})
sys.path[:0] = [sys.argv[1]]
import bundle_runs
dist.init_process_group(backend="gloo")
calls, destroy = [], dist.destroy_process_group
dist.init_process_group = lambda backend: calls.append("init " + backend)
dist.destroy_process_group = lambda group=None: destroy(group) if group else calls.append("destroy")
for bundle, files, given in json.loads(sys.argv[2]):
    calls.clear()
    made = bundle_runs.workflow(bundle_runs.BUNDLES / bundle, files, **given)
    assert made.check_properties() == [], files
    made.run()
    made.finalize()
    assert calls == ["init gloo", "destroy"], (files, calls)
    dist.barrier()
destroy()
"""


@pytest.fixture(scope="module")
def distributed(cohort: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Output folder of each bundle, trained and evaluated by two processes: one start of torchrun serves all."""
    home = tmp_path_factory.mktemp("distributed")
    (home / "runs.py").write_text(TWO_PROCESSES)
    runs = [
        (one.name, files, tiny(one, files, cohort, home / one.name))
        for one in FOLDERS
        for files in DISTRIBUTED
        if exists(one, files)
    ]
    words = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", str(home / "runs.py")]
    done = subprocess.run(
        [*words, str(Path(__file__).parent), json.dumps(runs)],
        env=environment(BUNDLES.parent),
        cwd=home,
        capture_output=True,
        text=True,
        timeout=TIME_LIMIT,
    )
    assert done.returncode == 0, done.stderr[-9000:]
    return {one.name: home / one.name for one in FOLDERS}


def test_two_processes_train(bundle: Path, distributed: dict[str, Path], cohort: Path) -> None:
    weights = torch.load(distributed[bundle.name] / "models" / "model.pt", weights_only=True)
    parser = ConfigParser()
    parser.read_config(config_files(bundle, "train"))
    parser.update(tiny(bundle, "train", cohort, distributed[bundle.name]))
    expected = parser.get_parsed_content("network_def").state_dict()
    # Names without the prefix of the distributed wrapper.
    assert {name: one.shape for name, one in weights.items()} == {name: one.shape for name, one in expected.items()}
    assert all(torch.isfinite(one).all() for one in weights.values())


def test_two_processes_score_as_one(bundle: Path, distributed: dict[str, Path], cohort: Path, tmp_path: Path) -> None:
    """Every case once, with the scores that one process gives with the same weights."""
    home = distributed[bundle.name]
    two = rows_of(home / "evaluation" / "scores.csv")
    os.rename(home / "evaluation", tmp_path / "of_two")
    given = tiny(bundle, "train+evaluate", cohort, home)
    run(bundle, "train+evaluate", **given)
    one = rows_of(home / "evaluation" / "scores.csv")
    assert sorted(row["case"] for row in two) == sorted(row["case"] for row in one)
    expected = {row["case"]: row for row in one}
    for row in two:
        for name, text in row.items():
            try:
                assert float(text) == pytest.approx(float(expected[row["case"]][name]), abs=1e-4, rel=1e-4), name
            except ValueError:
                assert text == expected[row["case"]][name], name
