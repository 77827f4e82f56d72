"""Several processes give what one gives: weights, scores, the best model and the moment to stop."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import logging
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from ignite.engine import Engine, Events
from monai.bundle import ConfigWorkflow
from monai.data import Dataset, DistributedSampler

from monai_ctmri.bundle import bundle_root
from monai_ctmri.data.phantom import write_phantom
from monai_ctmri.engines import (
    BestModelKeeper,
    CaseResults,
    PixelSeparation,
    ResumableCheckpoint,
    TrainingProgress,
    preserved_random_state,
    read_history,
    save_weights,
)
from monai_ctmri.errors import InputError

CONFIGS = bundle_root("brain_ctmri_autoencoder") / "configs"
SIZE, BATCH = 32, 4
CASES = 5

# The order of the manifest and no augmentation: two processes see in two half batches what one sees in a whole one.
AUTOENCODER: dict[str, Any] = {
    "image_size": SIZE,
    "max_epochs": 2,
    "augmentation_probability": 0.0,
    "progress_bar": False,
}
DENOISER: dict[str, Any] = {
    **AUTOENCODER,
    "network_def": {"_target_": "monai_ctmri.networks.CrossModalDenoiser", "features": [16] * 6},
    "loss": {"_target_": "monai_ctmri.losses.LaplaceLoss"},
    "train#key_metric": None,
    "train#handlers#1#metric": "val_separation",
    "train#handlers#1#mode": "max",
    "validate#preprocessing#transforms": "$@deterministic_transforms + [monai_ctmri.engines.PlantedAnomalyd("
    "pixel_spacing_mm=7.2)]",
    "validate#key_metric": {"val_separation": {"_target_": "monai_ctmri.engines.PlantedSeparation"}},
    "validate#evaluator#metric_cmp_fn": "$lambda current, best: current > best",
}
ONE_PROCESS: dict[str, Any] = {"batch_size": BATCH, "train#dataloader#shuffle": False}
TWO_PROCESSES: dict[str, Any] = {"batch_size": BATCH // 2, "train#sampler#shuffle": False}


def workflow(files: str, **given: Any) -> None:
    made = ConfigWorkflow(
        config_file=[str(CONFIGS / f"{name}.yaml") for name in files.split("+")],
        meta_file=str(CONFIGS / "metadata.json"),
        logging_file=str(CONFIGS / "logging.conf"),
        workflow_type="train",
        **given,
    )
    made.initialize()
    made.run()
    made.finalize()


@contextlib.contextmanager
def kept_logging() -> Iterator[None]:
    """The bundle's logging.conf replaces the handlers of the root logger."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    try:
        yield
    finally:
        root.handlers[:] = handlers
        root.setLevel(level)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def as_torchrun(rank: int, world: int, port: int, work: Callable[..., Any], given: tuple[Any, ...]) -> None:
    """Run ``work`` with the variables that torchrun sets."""
    torch.set_num_threads(1)
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(world)}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    dist.init_process_group("gloo")
    # Once: torch finds the addresses of an earlier group in the store, and a process that calls there waits for ever.
    for name in ("init_process_group", "destroy_process_group"):
        setattr(dist, name, lambda *args, **kwargs: None)
    work(rank, *given)


def in_processes(world: int, work: Callable[..., Any], *given: Any) -> None:
    """Fork the processes from one that has imported everything, since that takes longer than all they do."""
    method = "forkserver" if "forkserver" in mp.get_all_start_methods() else "spawn"
    mp.start_processes(as_torchrun, (world, free_port(), work, given), world, start_method=method)


@pytest.fixture(scope="module", autouse=True)
def _preload() -> None:
    if "forkserver" in mp.get_all_start_methods():
        mp.set_forkserver_preload(["monai.bundle", "monai_ctmri.engines", "monai_ctmri.networks", "tensorboard"])


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Nine subjects of four slices: 20 to train on, a multiple of the batch, 4 to validate, 8 to test."""
    return write_phantom(tmp_path_factory.mktemp("cohort"), 9, size=SIZE, slices=4)


@pytest.fixture(scope="module")
def alone(cohort: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What one process makes: a trained autoencoder and its evaluation, and a denoiser."""
    folder = tmp_path_factory.mktemp("alone")
    with kept_logging(), preserved_random_state():
        train_both(0, str(cohort), str(folder), "", ONE_PROCESS)
    return folder


@pytest.fixture(scope="module")
def together(cohort: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same by two processes."""
    folder = tmp_path_factory.mktemp("together")
    in_processes(2, train_both, str(cohort), str(folder), "multi_gpu", TWO_PROCESSES)
    return folder


def train_both(rank: int, cohort: str, folder: str, overlay: str, given: dict[str, Any]) -> None:
    train, evaluate = (f"+{overlay}_{name}" if overlay else "" for name in ("train", "evaluate"))
    places = {"dataset_dir": cohort, "output_dir": f"{folder}/autoencoder", "cache_dir": folder}
    workflow(f"train{train}", **places, **AUTOENCODER, **given)
    workflow(f"train+evaluate{evaluate}", **places, image_size=SIZE, batch_size=BATCH)
    workflow(f"train{train}", **{**places, "output_dir": f"{folder}/denoiser"}, **DENOISER, **given)


def largest_difference(first: Path, second: Path) -> float:
    one, other = (torch.load(path, weights_only=True) for path in (first, second))
    one, other = (content.get("model", content) for content in (one, other))
    assert list(one) == list(other)
    assert not any(name.startswith("module.") for name in one)
    return max(float((one[name] - other[name]).abs().max()) for name in one)


@pytest.mark.parametrize("network", ["autoencoder", "denoiser"])
@pytest.mark.parametrize("file", ["models/model.pt", "checkpoints/checkpoint_epoch=2.pt"])
def test_two_processes_train_the_weights_of_one(network: str, file: str, alone: Path, together: Path) -> None:
    # Adam divides by the size of a gradient: where there is hardly any, rounding becomes a part of a step of 1e-3.
    # Without the exchange of gradients the weights differ by whole steps.
    assert largest_difference(alone / network / file, together / network / file) < 2e-4


def test_training_did_something(alone: Path) -> None:
    first, last = (alone / "denoiser" / "checkpoints" / f"checkpoint_epoch={epoch}.pt" for epoch in (1, 2))
    assert largest_difference(first, last) > 1e-3


@pytest.mark.parametrize(("network", "metric"), [("autoencoder", "val_mse"), ("denoiser", "val_separation")])
def test_validation_is_that_of_one_process(network: str, metric: str, alone: Path, together: Path) -> None:
    one, two = (read_history(folder / network / "history.json") for folder in (alone, together))
    assert [entry["epoch"] for entry in one] == [entry["epoch"] for entry in two] == [1, 2]
    assert [entry[metric] for entry in two] == pytest.approx([entry[metric] for entry in one], abs=1e-4)
    if metric == "val_separation":
        last = alone / network / "checkpoints" / "checkpoint_epoch=2.pt"
        kept = torch.load(last, weights_only=True)["best_model"]
        assert (kept["mode"], kept["best"]) == ("max", max(entry[metric] for entry in one))


def test_evaluation_is_that_of_one_process(alone: Path, together: Path) -> None:
    one, two = (folder / "autoencoder" / "evaluation" for folder in (alone, together))
    rows, others = (list(csv.DictReader((folder / "scores.csv").open(newline=""))) for folder in (one, two))
    assert len(rows) == 8
    assert [row["case"] for row in rows] == [row["case"] for row in others]
    for row, other in zip(rows, others, strict=True):
        for name in ("mse", "l1_mean", "l1_top"):
            assert float(other[name]) == pytest.approx(float(row[name]), abs=1e-5)
    one_says, two_say = (json.loads((folder / "metrics.json").read_text()) for folder in (one, two))
    assert one_says["cases"] == two_say["cases"]


def test_two_machines(cohort: Path, alone: Path, tmp_path: Path, repository: Path) -> None:
    """Two torchrun agents, as on two nodes: each process is the first of its machine, but not of the run."""
    options = {**AUTOENCODER, **TWO_PROCESSES, "dataset_dir": cohort, "output_dir": tmp_path, "cache_dir": tmp_path}
    files = ",".join(f"'{CONFIGS / name}.yaml'" for name in ("train", "multi_gpu_train"))
    command = [sys.executable, "-m", "torch.distributed.run", "--nnodes=2", "--nproc_per_node=1"]
    command += [
        "--rdzv-backend=c10d",
        f"--rdzv-endpoint=127.0.0.1:{free_port()}",
        "--rdzv-id=run",
        "--local-addr=127.0.0.1",
    ]
    command += ["-m", "monai.bundle", "run", "--config_file", f"[{files}]"]
    command += [word for name, value in options.items() for word in (f"--{name}", str(value))]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(repository)}
    agents = [
        subprocess.Popen(command, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        for _ in range(2)
    ]
    try:
        said = [agent.communicate(timeout=180)[0] for agent in agents]
    finally:
        for agent in agents:
            agent.kill()
    assert [agent.returncode for agent in agents] == [0, 0], "\n".join(said)
    model = Path("models") / "model.pt"
    assert largest_difference(alone / "autoencoder" / model, tmp_path / model) < 1e-5


def part(rank: int, folder: str) -> None:
    """What each of the processes of ``handlers`` saw, for the test to read."""
    seen: dict[str, Any] = {"early stop": stopped(Path(folder), rank), "bar": bar()}
    for even in (True, False):
        collect(
            Path(folder) / f"results-{even}",
            DistributedSampler(Dataset(range(CASES)), even_divisible=even, shuffle=False),
        )
    separation = PixelSeparation()
    for number in ([0, 1], [2])[rank]:
        separation(*judged(number))
    seen["separation"] = float(separation.aggregate())
    seen["own disks"] = refusal(Path(folder) / f"node-{rank}", 3 + rank)
    seen["shared disk"] = refusal(Path(folder) / "shared", 3)
    (Path(folder) / f"{rank}.json").write_text(json.dumps(seen))


def stopped(folder: Path, rank: int) -> dict[str, Any]:
    """Each process has a validation of its own: on the second machine the value keeps getting better."""
    values = {0: [0.5, 0.4, 0.6, 0.6, 0.6, 0.6], 1: [0.5, 0.4, 0.3, 0.2, 0.1, 0.0]}[rank]
    validator, trainer = Engine(lambda engine, batch: None), Engine(lambda engine, batch: None)

    @trainer.on(Events.EPOCH_COMPLETED)
    def validate(engine: Engine) -> None:
        validator.state.epoch = engine.state.epoch
        validator.state.metrics = {"val_mse": values[engine.state.epoch - 1]}

    keeper = BestModelKeeper(validator, torch.nn.Linear(1, 1), folder / f"best-{rank}.pt", "val_mse", patience=2)
    keeper.attach(trainer)
    trainer.run([0], max_epochs=6)
    return {"epoch": trainer.state.epoch, **keeper.state_dict()}


def bar() -> str:
    stream = io.StringIO()
    engine = Engine(lambda engine, batch: {"loss": 0.25})
    TrainingProgress(disable=False, file=stream, mininterval=0).attach(engine)
    engine.run([1, 2], max_epochs=1)
    return stream.getvalue()


def collect(folder: Path, order: Any) -> None:
    def step(engine: Engine, number: int) -> list[dict[str, Any]]:
        engine.state.batch = [{"case": f"c{number}", "subject": "s", "label": number % 2}]  # type: ignore[assignment]
        scores = {"error": number / 7} | ({"mismatch": 0.5} if number == 3 else {})
        return [{"scores": scores, "map": torch.full((1, 2, 2), float(number))}]

    engine = Engine(step)
    CaseResults(folder, save_key="map", metrics=True, scores_key="scores").attach(engine)
    engine.run(list(order))


def judged(number: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(number)
    return torch.rand(1, 1, 9, 9, generator=generator), (torch.rand(1, 1, 9, 9, generator=generator) > 0.5).float()


def refusal(folder: Path, epoch: int) -> str:
    network = torch.nn.Linear(1, 1)
    save_weights({"model": network.state_dict(), "trainer": {"epoch": epoch}}, folder / f"checkpoint_epoch={epoch}.pt")
    dist.barrier()
    engine = Engine(lambda engine, batch: None)
    try:
        ResumableCheckpoint(folder, {"model": network}).load(engine)
    except InputError as error:
        return str(error)
    return f"continued after {engine.state.epoch}"


@pytest.fixture(scope="module")
def handlers(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[dict[str, Any]]]:
    """The handlers in two processes, and what each of the two saw."""
    folder = tmp_path_factory.mktemp("handlers")
    in_processes(2, part, str(folder))
    return folder, [json.loads((folder / f"{rank}.json").read_text()) for rank in range(2)]


Seen = tuple[Path, list[dict[str, Any]]]


def test_all_stop_at_the_same_epoch_for_the_same_best(handlers: Seen) -> None:
    _, (first, second) = handlers
    assert first["early stop"] == second["early stop"]
    assert (first["early stop"]["epoch"], first["early stop"]["best"]) == (4, 0.4)


def test_only_the_first_process_shows_a_bar(handlers: Seen) -> None:
    _, (first, second) = handlers
    assert "loss=0.25" in first["bar"]
    assert second["bar"] == ""


@pytest.mark.parametrize("even", [True, False])
def test_rows_come_once_and_in_order(even: bool, handlers: Seen, tmp_path: Path) -> None:
    """Five cases on two processes: a sampler that fills up deals one out twice."""
    folder, _ = handlers
    collect(tmp_path, range(CASES))
    for name in ("scores.csv", "metrics.json"):
        assert (folder / f"results-{even}" / name).read_bytes() == (tmp_path / name).read_bytes()
    assert len(list((folder / f"results-{even}" / "maps").iterdir())) == CASES


def test_separation_counts_the_cases_of_all(handlers: Seen) -> None:
    _, seen = handlers
    whole = PixelSeparation()
    for number in range(3):
        whole(*judged(number))
    assert seen[0]["separation"] == seen[1]["separation"] == pytest.approx(float(whole.aggregate()), abs=1e-6)


def test_checkpoints_on_a_disk_each_are_refused(handlers: Seen) -> None:
    _, seen = handlers
    for each in seen:
        assert "3, 4" in each["own disks"]
        assert "disk that all machines share" in each["own disks"]
        assert each["shared disk"] == "continued after 3"
