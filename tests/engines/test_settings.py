"""What is written is YAML and reads back equal."""

from __future__ import annotations

from pathlib import Path

import torch
import yaml

from monai_ctmri.engines import write_settings


def test_round_trip(tmp_path: Path) -> None:
    plain = {"a": None, "b": True, "c": 1, "d": 1e-4, "e": "ct", "f": [1, "x"], "g": {"h": 2}}
    write_settings(tmp_path / "deep" / "config.yaml", plain)
    assert yaml.safe_load((tmp_path / "deep" / "config.yaml").read_text()) == plain


def test_other_values_become_text(tmp_path: Path) -> None:
    write_settings(tmp_path / "config.yaml", {"path": Path("a") / "b", "device": torch.device("cpu"), "pair": (1, 2)})
    read = yaml.safe_load((tmp_path / "config.yaml").read_text())
    assert read == {"path": str(Path("a") / "b"), "device": "cpu", "pair": [1, 2]}
