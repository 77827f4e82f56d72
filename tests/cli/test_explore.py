"""``monai-ctmri explore`` as a user calls it."""

from __future__ import annotations

import json
import logging
import re

import numpy as np
import pytest
import typer
from PIL import Image

from monai_ctmri import cli
from monai_ctmri.cli.explore import explore


@pytest.fixture
def call(monkeypatch, capsys):
    """Call the program; return exit code, standard output and standard error."""
    if "explore" not in [command.name for command in cli.app.registered_commands]:
        whole = typer.Typer(cls=type(typer.main.get_command(cli.app)), pretty_exceptions_enable=False)
        whole.command("explore")(explore)
        whole.command("other")(lambda: None)
        monkeypatch.setattr(cli, "app", whole)
    level = logging.root.manager.disable

    def run(*words: object) -> tuple[int, str, str]:
        monkeypatch.setattr("sys.argv", ["monai-ctmri", "explore", *map(str, words)])
        monkeypatch.setenv("COLUMNS", "200")
        with pytest.raises(SystemExit) as stop:
            cli.main()
        shown = capsys.readouterr()
        return int(stop.value.code or 0), shown.out, shown.err

    yield run
    logging.disable(level)


@pytest.fixture
def folder(tmp_path):
    """Two CT pictures of noise, one of them broken."""
    (tmp_path / "data" / "ct").mkdir(parents=True)
    plane = np.random.default_rng(0).integers(0, 255, (30, 30), dtype=np.uint8)
    Image.fromarray(plane).save(tmp_path / "data" / "ct" / "a.png")
    (tmp_path / "data" / "ct" / "b.png").write_bytes(b"broken")
    return tmp_path / "data"


def test_findings_are_no_failure_and_the_last_line_names_the_page(call, folder, tmp_path):
    code, out, err = call(folder, "--out", tmp_path / "out")
    assert code == 0
    assert out.splitlines()[-1] == f"Report: {tmp_path / 'out' / 'exploration.html'}"
    assert re.search(r"Findings\s+│\s+\d+\s+│ 1 error, ", out)
    assert re.search(r"CT images\s+│\s+2 ", out)
    assert "Examining images: done (2)" in err
    summary = json.loads((tmp_path / "out" / "dataset_summary.json").read_text())
    assert summary["findings"]["by_severity"]["error"] == 1
    assert "monai-ctmri explore" in (tmp_path / "out" / "exploration.html").read_text()


def test_no_image_is_bad_input(call, tmp_path):
    (tmp_path / "empty").mkdir()
    code, out, err = call(tmp_path / "empty", "--out", tmp_path / "out")
    assert code == 2
    assert err.splitlines()[-1].startswith(f"Error: {tmp_path / 'empty'}: ")
    assert "Report:" not in out
    assert not (tmp_path / "out" / "exploration.html").exists()


def test_a_missing_folder_is_bad_input(call, tmp_path):
    code, _, err = call(tmp_path / "nowhere", "--out", tmp_path / "out")
    assert code == 2
    assert "nowhere" in err


def test_writing_into_the_data_is_refused_before_any_work(call, folder):
    code, _, err = call(folder, "--out", folder / "explored")
    assert code == 2
    assert "outside" in err
    assert not (folder / "explored").exists()


def test_every_option_arrives(call, monkeypatch, tmp_path):
    given: dict = {}

    class ReachedError(Exception):
        pass

    def instead(data, **options):
        given.update(data=data, **options)
        raise ReachedError

    monkeypatch.setattr("monai_ctmri.data.exploration.explore", instead)
    with pytest.raises(ReachedError):
        call("d", "--out", tmp_path / "out", "--workers", 3, "--a-is", "mri", "--allow-resample")
    given.pop("progress")
    assert str(given.pop("data")) == "d"
    assert given == {"workers": 3, "a_is": "mri", "allow_resample": True}


def test_square_brackets_in_names_are_shown_as_they_are(call, tmp_path):
    plane = np.random.default_rng(0).integers(0, 255, (30, 30), dtype=np.uint8)
    (tmp_path / "[red]set[/red]" / "mri").mkdir(parents=True)
    Image.fromarray(plane).save(tmp_path / "[red]set[/red]" / "mri" / "a.png")
    code, out, _ = call(tmp_path / "[red]set[/red]", "--out", tmp_path / "out")
    assert code == 0
    assert "[red]set[/red]" in out.replace("\n", "")


def test_every_file_of_the_other_modality_has_a_line(call, folder, monkeypatch, tmp_path):
    """As the summary lists them, whatever their names hold and however long they are."""
    from monai_ctmri.data import exploration as room

    long = "[bold]b[/bold]/" + "deep/" * 60 + "c.png"
    rows = [
        {"file": "ct/a.png", "kind": "wrong_modality", "measure": "ct-likeness 0.02, stated ct", "severity": "error"},
        {"file": "ct/b.png", "kind": "unreadable", "measure": "", "severity": "error"},
        {"file": long, "kind": "wrong_modality", "measure": "ct-likeness 0.97, stated mri", "severity": "error"},
    ]
    found = room.explore(folder)
    found.summary["findings"] |= {"list": rows, "by_kind": {"wrong_modality": 2, "unreadable": 1}}
    monkeypatch.setattr(room, "explore", lambda data, **options: found)
    _, out, _ = call(folder, "--out", tmp_path / "out")
    lines = [line for line in out.splitlines() if line.startswith("Wrong modality")]
    assert lines == [
        "Wrong modality: ct/a.png (ct-likeness 0.02, stated ct)",
        f"Wrong modality: {long} (ct-likeness 0.97, stated mri)",
    ]
    assert out.splitlines()[-1].startswith("Report: ")


def test_a_set_of_the_modality_it_states_has_no_such_line(call, folder, tmp_path):
    _, out, _ = call(folder, "--out", tmp_path / "out")
    assert "Wrong modality" not in out
