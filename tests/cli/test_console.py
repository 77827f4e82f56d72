"""What the commands show."""

from __future__ import annotations

import io
import logging
import shlex
import warnings

import pytest

from monai_ctmri.cli import console
from monai_ctmri.cli.console import command_given, quiet_libraries, show_summary, stages


@pytest.fixture
def _logging_restored():
    level, filters = logging.root.manager.disable, warnings.filters[:]
    yield
    logging.disable(level)
    warnings.filters[:] = filters


def interval(value, low=None, high=None) -> dict:
    return {"value": value, "low": low, "high": high}


def results(kind: str = "phantom") -> dict:
    def method(label: str, auroc: dict) -> dict:
        return {"label": label, "group": "network", "modality": "both", "auroc": auroc}

    methods = [
        method("Worse", interval(0.4, 0.3, 0.5)),
        method("Unknown", interval(None)),
        method("Best", interval(0.9, 0.8, 0.95)),
        method("Without interval", interval(0.6)),
    ]
    return {
        "sets": [{"name": "Injected lesions", "n_normal": 12, "n_abnormal": 48, "methods": methods}],
        "decision": {
            "alpha": 0.05,
            "n_calibration": 40,
            "calibration_unit": "slices",
            "false_alarms": interval(0.125, 0.05, 0.25),
            "sensitivity": interval(None),
        },
        "data": {"kind": kind},
    }


def shown(capsys, kind: str = "phantom", report: str = "runs/demo/report.html") -> str:
    show_summary(results(kind), report)
    return capsys.readouterr().out


def test_methods_are_ranked_best_first_and_unknown_last(capsys):
    text = shown(capsys)
    order = [text.index(name) for name in ("Best", "Without interval", "Worse", "Unknown")]
    assert order == sorted(order)
    assert "0.900 [0.80, 0.95]" in text
    assert "0.600 " in text


def test_counts_and_decision_are_shown(capsys):
    text = " ".join(shown(capsys).split())
    assert "Injected lesions: 12 normal, 48 abnormal" in text
    assert "At alpha 0.05 (calibrated on 40 normal slices): false alarms 0.125 [0.05, 0.25], sensitivity -" in text


def test_a_phantom_result_is_called_one_and_a_real_one_is_not(capsys):
    assert "phantom" in shown(capsys)
    assert "phantom" not in shown(capsys, "real")


@pytest.mark.parametrize("report", ["runs/[bold]x[/bold]/report.html", "runs/" + "long/" * 60 + "report.html"])
def test_last_line_is_the_reports_path_letter_for_letter(capsys, report):
    assert shown(capsys, report=report).splitlines()[-1] == f"Report: {report}"


def test_without_a_terminal_a_stage_is_one_line_on_stderr_when_it_is_done(capsys):
    with stages() as advance:
        for done in range(1, 4):
            advance("First", done, 3)
        advance("Second", 1, 2)
        advance("First", 3, 3)
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines() == ["First: done (3)"]


def test_in_a_terminal_a_stage_is_a_bar(monkeypatch):
    from rich.console import Console

    stream = io.StringIO()
    monkeypatch.setattr(console, "Console", lambda **_: Console(file=stream, force_terminal=True, width=100))
    with stages() as advance:
        advance("Training", 1, 2)
        advance("Training", 2, 2)
    assert "Training" in stream.getvalue()
    assert "2/2" in stream.getvalue()
    assert "done (" not in stream.getvalue()


def test_an_error_inside_a_stage_comes_through():
    def work() -> None:
        with stages() as advance:
            advance("Training", 1, 2)
            raise KeyError("x")

    with pytest.raises(KeyError):
        work()


@pytest.mark.usefixtures("_logging_restored")
def test_libraries_are_quiet_but_warnings_of_ours_are_not():
    warnings.resetwarnings()
    quiet_libraries(verbose=False)
    assert not logging.getLogger("monai").isEnabledFor(logging.INFO)
    assert logging.getLogger("monai").isEnabledFor(logging.WARNING)
    with warnings.catch_warnings(record=True) as caught:
        for module in ("monai", "monai.bundle.scripts", "monai_ctmri.data.phantom", "numpy"):
            warnings.warn_explicit(f"from {module}", UserWarning, "x.py", 1, module=module)
    assert [str(one.message) for one in caught] == ["from monai_ctmri.data.phantom", "from numpy"]


@pytest.mark.usefixtures("_logging_restored")
def test_verbose_shows_what_is_logged():
    logging.disable(logging.NOTSET)
    quiet_libraries(verbose=True)
    assert logging.root.manager.disable == logging.NOTSET


def test_the_command_given_can_be_pasted_into_a_shell(monkeypatch):
    arguments = ["demo", "--out", "a folder/it's", "--seed", "3"]
    monkeypatch.setattr("sys.argv", ["/somewhere/monai-ctmri", *arguments])
    assert shlex.split(command_given()) == ["monai-ctmri", *arguments]
