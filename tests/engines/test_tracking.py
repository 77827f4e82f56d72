"""``--tracking``: MONAI adds its MLflow handlers to our configurations; what they send, against a client that notes it.

MLflow itself is no dependency; the notebook below stands for its client, everything else is MONAI's and ours.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from monai.bundle import ConfigWorkflow
from monai.handlers import mlflow_handler

from monai_ctmri.bundle import bundle_root
from monai_ctmri.engines import preserved_random_state, read_history

CONFIGS = bundle_root("brain_ctmri_autoencoder") / "configs"


class Notebook:
    """The calls of ``mlflow.MlflowClient`` that MONAI's handler makes, on one run."""

    metrics: dict[str, list[tuple[int, float]]]
    params: dict[str, str]
    artifacts: list[str]
    places: list[Any]
    run: Any

    def __init__(self, tracking_uri: str | None = None) -> None:
        self.places.append(tracking_uri)
        self.tracking_uri = tracking_uri

    def get_experiment_by_name(self, name: str) -> Any:
        return SimpleNamespace(name=name, experiment_id="1", lifecycle_stage="active")

    def search_runs(self, experiment: str) -> list[Any]:
        return [] if self.run is None else [self.run]

    def create_run(self, experiment_id: str, run_name: str) -> Any:
        type(self).run = SimpleNamespace(info=SimpleNamespace(run_id="r", run_name=run_name, status="RUNNING"))
        self.run.data = SimpleNamespace(params=self.params)
        return self.run

    def get_run(self, run_id: str) -> Any:
        return self.run

    def log_batch(self, run_id: str, metrics: list[Any], params: list[Any], tags: list[Any]) -> None:
        for key, value, _, step in metrics:
            self.metrics.setdefault(key, []).append((step, float(value)))
        self.params.update(params)

    def log_artifact(self, run_id: str, path: str) -> None:
        self.artifacts.append(path)

    def set_terminated(self, run_id: str, status: Any = None) -> None:
        self.run.info.status = "FINISHED"


@pytest.fixture
def notebook(monkeypatch: pytest.MonkeyPatch) -> type[Notebook]:
    """A fresh notebook in the place of MLflow."""
    pages = type("Pages", (Notebook,), {"metrics": {}, "params": {}, "artifacts": [], "places": [], "run": None})
    status = SimpleNamespace(FINISHED="FINISHED", to_string=str)
    entities = SimpleNamespace(
        RunStatus=status,
        LifecycleStage=SimpleNamespace(ACTIVE="active"),
        Metric=lambda key, value, time, step: (key, value, time, step),
        Param=lambda key, value: (key, value),
    )
    monkeypatch.setattr(mlflow_handler, "mlflow", SimpleNamespace(MlflowClient=pages, entities=entities))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return pages


def run(files: str, manifest: Path, out: Path, tracking: Any, **given: Any) -> None:
    with preserved_random_state():
        workflow = ConfigWorkflow(
            config_file=[str(CONFIGS / f"{name}.yaml") for name in files.split("+")],
            meta_file=str(CONFIGS / "metadata.json"),
            logging_file=False,
            workflow_type="train",
            tracking=tracking,
            dataset_dir=str(manifest),
            output_dir=str(out),
            image_size=32,
            batch_size=5,
            **given,
        )
        workflow.initialize()
        workflow.run()
        workflow.finalize()


def test_mlflow(notebook: type[Notebook], phantom_manifest: Path, tmp_path: Path) -> None:
    """Training and validation report; then the evaluation overlay does."""
    run("train", phantom_manifest, tmp_path, "mlflow", max_epochs=2, progress_bar=False)
    history = read_history(tmp_path / "history.json")
    assert notebook.metrics["val_mse"] == [(entry["epoch"], pytest.approx(entry["val_mse"])) for entry in history]
    losses = [value for _, value in notebook.metrics["train_loss"]]
    assert len(losses) == 6  # 15 slices in batches of 5, twice
    assert sum(losses[:3]) / 3 == pytest.approx(history[0]["train_loss"], rel=1e-5)
    assert notebook.params["max_epochs"] == "2"
    assert set(notebook.places) == {f"sqlite:///{tmp_path}/mlruns.db"}
    (config,) = tmp_path.glob("config_*.json")
    assert json.loads(config.read_text())["max_epochs"] == 2
    assert (tmp_path / "checkpoints" / "checkpoint_epoch=2.pt").is_file()  # the added handler moved none of ours

    notebook.metrics.clear()
    run("train+evaluate", phantom_manifest, tmp_path, "mlflow")
    assert len(notebook.metrics["val_mse"]) == 1
    assert (tmp_path / "evaluation" / "scores.csv").is_file()


def test_settings_of_a_file(notebook: type[Notebook], phantom_manifest: Path, tmp_path: Path) -> None:
    """A server of one's own: a file with the handlers to add and the values they use."""
    settings = {
        "handlers_id": {"trainer": {"id": "train#trainer", "handlers": "train#handlers"}},
        "configs": {
            "tracking_uri": "https://tracking.example",
            "trainer": {
                "_target_": "MLFlowHandler",
                "_disabled_": "$not @main_process",
                "tracking_uri": "@tracking_uri",
                "experiment_name": "brain",
                "tag_name": "train_loss",
                "output_transform": "$monai.handlers.from_engine(['loss'], first=True)",
                "close_on_complete": True,
            },
        },
    }
    file = tmp_path / "tracking.json"
    file.write_text(json.dumps(settings))
    run("train", phantom_manifest, tmp_path, str(file), max_epochs=1, progress_bar=False)
    assert notebook.places == ["https://tracking.example"]
    assert len(notebook.metrics["train_loss"]) == 3
    assert "val_mse" not in notebook.metrics


@pytest.mark.skipif("mlflow" in sys.modules, reason="MLflow is installed")
def test_without_mlflow_the_reason_is_named(phantom_manifest: Path, tmp_path: Path) -> None:
    with pytest.raises(Exception, match=r"(?i)mlflow"):
        run("train", phantom_manifest, tmp_path, "mlflow", max_epochs=1, progress_bar=False)
