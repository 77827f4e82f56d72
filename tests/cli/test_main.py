"""The program as it is started: help, speed of start, exit codes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from importlib import metadata
from pathlib import Path

import pytest
from typer.testing import CliRunner

from monai_ctmri import cli
from monai_ctmri.errors import InputError

PROGRAM = Path(sys.executable).with_name("monai-ctmri")
COMMANDS = ("benchmark", "demo", "download", "explore", "lesions", "phantom", "prepare", "score", "version")
HEAVY = {"torch", "monai", "numpy", "scipy", "sklearn", "pyod", "ignite", "matplotlib", "nilearn", "nibabel", "PIL"}

IMPORT = "import monai_ctmri"
HELP = """
import contextlib, io, sys
sys.argv = ["monai-ctmri", "--help"]
from monai_ctmri.cli import main
with contextlib.suppress(SystemExit), contextlib.redirect_stdout(io.StringIO()):
    main()
"""
REPORT = """
import json, sys, time
print(json.dumps({"cpu": time.process_time(), "modules": [name for name in sys.modules if "." not in name]}))
"""


def measured(code: str) -> dict:
    """Run the code in a new Python; CPU seconds (user and system, start of Python included) and modules loaded."""
    done = subprocess.run([sys.executable, "-c", code + REPORT], capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


@pytest.mark.parametrize("code", [IMPORT, HELP], ids=["import", "help"])
def test_start_takes_under_half_a_second_and_loads_nothing_heavy(code):
    runs = [measured(code) for _ in range(3)]
    # The least of three: another program on the same cores can only add.
    assert min(run["cpu"] for run in runs) < 0.5
    assert not HEAVY & set(runs[0]["modules"])


def test_the_installed_program_is_this_one():
    (entry,) = metadata.entry_points(group="console_scripts", name="monai-ctmri")
    assert entry.load() is cli.main
    done = subprocess.run([PROGRAM, "--help"], capture_output=True, text=True, check=True)
    assert "not a medical device" in " ".join(done.stdout.split())
    assert all(name in done.stdout for name in COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_a_command_has_an_example_that_is_that_command(command):
    done = CliRunner().invoke(cli.app, [command, "--help"], terminal_width=200)
    assert done.exit_code == 0
    assert f"Example: monai-ctmri {command}" in done.output


def test_every_command_is_tested_here():
    assert {one.name for one in cli.app.registered_commands} == set(COMMANDS)


def test_help_has_an_example_and_no_command_shows_help():
    assert "Example: monai-ctmri demo" in CliRunner().invoke(cli.app, ["--help"]).output
    assert "Usage: " in CliRunner().invoke(cli.app, []).output


@pytest.mark.parametrize("arguments", [["nothing"], ["phantom"], ["demo", "--seed", "x"], ["demo", "--nothing"]])
def test_wrong_usage_exits_2(arguments):
    done = CliRunner().invoke(cli.app, arguments)
    assert done.exit_code == 2
    assert done.stdout == ""
    assert done.stderr


@pytest.fixture
def raising(monkeypatch):
    """Call ``main`` with a phantom command whose work raises."""

    def call(tmp_path: Path, error: BaseException) -> None:
        def instead(*_, **__):
            raise error

        monkeypatch.setattr("monai_ctmri.data.phantom.write_phantom", instead)
        monkeypatch.setattr("sys.argv", ["monai-ctmri", "phantom", "--out", str(tmp_path / "out")])
        cli.main()

    return call


@pytest.mark.parametrize("error", [ValueError("no input error"), OSError(28, "No space left"), AssertionError("x")])
def test_an_unexpected_error_comes_through(tmp_path, raising, error):
    with pytest.raises(type(error)) as caught:
        raising(tmp_path, error)
    assert caught.value is error


def test_an_unexpected_error_ends_in_its_traceback_and_exit_code_1(tmp_path):
    code = """
import sys, monai_ctmri.data.phantom as phantom
from monai_ctmri.cli import main
def instead(*_, **__):
    raise ZeroDivisionError("unexpected")
phantom.write_phantom = instead
sys.argv = ["monai-ctmri", "phantom", "--out", sys.argv[1]]
main()
"""
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path / "out")], capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.startswith("Traceback (most recent call last):")
    assert done.stderr.splitlines()[-1] == "ZeroDivisionError: unexpected"
    assert "Error: " not in done.stderr.replace("ZeroDivisionError: ", "")


@pytest.mark.parametrize("wrapped", [False, True])
def test_bad_input_is_one_line_and_exit_code_2_even_behind_another_error(tmp_path, raising, capsys, wrapped):
    error: Exception = InputError("a.png: cut off; copy it again")
    if wrapped:
        outer = RuntimeError("applying transform")
        outer.__cause__ = error
        error = outer
    with pytest.raises(SystemExit) as stop:
        raising(tmp_path, error)
    assert stop.value.code == 2
    assert capsys.readouterr() == ("", "Error: a.png: cut off; copy it again\n")


def test_an_interrupt_is_one_line_and_exit_code_130(tmp_path, raising, capsys):
    with pytest.raises(SystemExit) as stop:
        raising(tmp_path, KeyboardInterrupt())
    assert stop.value.code == 130
    out, err = capsys.readouterr()
    assert out == ""
    assert err == "Interrupted. The same command continues where it stopped.\n"


@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
def test_ctrl_c_leaves_no_half_file_and_the_same_command_finishes(tmp_path):
    out, command = tmp_path / "p", ["phantom", "--subjects", "25", "--size", "16", "--slices", "1"]

    def interruptible() -> None:
        # A test run in the background inherits an ignored SIGINT, and so would the program.
        signal.signal(signal.SIGINT, signal.SIG_DFL)

    process = subprocess.Popen(
        [PROGRAM, *command, "--out", out], stderr=subprocess.PIPE, text=True, preexec_fn=interruptible
    )
    limit = time.monotonic() + 60
    while not list(out.glob("tissue/phantom-*.png")) and process.poll() is None and time.monotonic() < limit:
        time.sleep(0.002)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert err == "Interrupted. The same command continues where it stopped.\n"
    assert not (out / "manifest.csv").exists()
    assert not list(out.rglob(".*.tmp.*"))
    done = CliRunner().invoke(cli.app, [*command, "--out", str(out)])
    assert done.exit_code == 0, done.output
    assert len(list((out / "ct").iterdir())) == 25
