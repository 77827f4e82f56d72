"""The script of docs/compose.md runs as a newcomer would run it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch

PAGE = Path(__file__).resolve().parent.parent / "docs" / "compose.md"
SCRIPTS = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)


def test_the_page_has_a_script():
    assert len(SCRIPTS) == 1


@pytest.mark.parametrize("script", SCRIPTS)
def test_the_script_trains_a_network_of_monai_for_one_epoch(script, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    before: dict = {}
    names: dict = {"__name__": "compose"}
    state = torch.get_rng_state()
    try:
        start, run = script.rsplit("trainer.run()", 1)[0], "trainer.run()"
        exec(compile(start, str(PAGE), "exec"), names)
        before = {name: value.clone() for name, value in names["network"].state_dict().items()}
        exec(compile(run, str(PAGE), "exec"), names)
    finally:
        torch.set_rng_state(state)
    trainer = names["trainer"]
    assert type(names["network"]).__module__.startswith("monai.networks.nets")
    assert trainer.state.epoch == 1
    assert trainer.state.iteration == 4  # 16 slices in batches of 4
    after = names["network"].state_dict()
    assert any(not torch.equal(before[name], after[name]) for name in before)
    batch = next(iter(trainer.state.dataloader))
    assert batch["image"].shape == (4, 2, 64, 64)
    assert not torch.equal(batch["image"], batch["label"])
    assert all(torch.isfinite(value).all() for value in after.values() if value.is_floating_point())
