"""``monai-ctmri download``, with the real client and a server of our own."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from monai_ctmri import cli

path = Path(__file__).resolve().parent.parent / "data" / "kaggle_server.py"
spec = importlib.util.spec_from_file_location("kaggle_server", path)
fake = importlib.util.module_from_spec(spec)
spec.loader.exec_module(fake)

needs_client = pytest.mark.skipif(sys.version_info < (3, 11), reason="kaggle needs Python 3.11 or newer")
SLUG = "ct-to-mri-cgan"


@pytest.fixture
def home(tmp_path, monkeypatch) -> Path:
    for name in [*os.environ]:
        if name.startswith("KAGGLE_") or name.lower().endswith("_proxy") or name == "XDG_CONFIG_HOME":
            monkeypatch.delenv(name)
    folder = tmp_path / "home"
    folder.mkdir()
    monkeypatch.setenv("HOME", str(folder))
    monkeypatch.setenv("USERPROFILE", str(folder))
    monkeypatch.setenv("NO_PROXY", "*")
    monkeypatch.setenv("KAGGLE_API_ENVIRONMENT", "LOCALHOST")
    return folder


@pytest.fixture
def server(home, monkeypatch):
    pytest.importorskip("kaggle", reason="the kaggle client is not installed")
    import kagglesdk.kaggle_env as environment
    from kaggle.api.kaggle_api_extended import KaggleApi

    with fake.KaggleServer() as running:
        threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        monkeypatch.setitem(environment._env_to_endpoint, environment.KaggleEnv.LOCAL, running.url)
        monkeypatch.setattr(KaggleApi, "args", ["--local"])
        yield running
        running.go_on.set()
        running.shutdown()


@pytest.fixture
def call(monkeypatch, capfd):
    """Call the program; return its exit code, stdout and stderr."""

    def run(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr("sys.argv", ["monai-ctmri", "download", *map(str, arguments)])
        with pytest.raises(SystemExit) as stop:
            cli.main()
        return (stop.value.code or 0, *capfd.readouterr())

    return run


@pytest.fixture
def kaggle_json(home) -> Path:
    file = home / ".kaggle" / "kaggle.json"
    file.parent.mkdir()
    file.write_text(json.dumps({"username": "someone", "key": fake.KEY}))
    file.chmod(0o600)
    return file


def check_steps(stderr: str, folder: Path) -> None:
    """Five numbered steps, then the one line."""
    lines = stderr.splitlines()
    *_, title, one, two, three, four, five, error = lines
    assert title == "To get the data by hand:"
    assert [line.split(".")[0].strip() for line in (one, two, three, four, five)] == ["1", "2", "3", "4", "5"]
    assert "https://www.kaggle.com/datasets/darren2020/ct-to-mri-cgan" in one
    assert four.endswith(str(folder))
    assert five.endswith(f"monai-ctmri prepare {folder}")
    assert error.startswith("Error: darren2020/ct-to-mri-cgan: ")


@needs_client
def test_default_data_set_is_downloaded_and_the_next_command_named(server, kaggle_json, call, tmp_path):
    folder = tmp_path / "data" / SLUG
    code, stdout, stderr = call("--out", tmp_path / "data")
    assert code == 0, stderr
    assert stdout == f"Data: {folder}\nNext: monai-ctmri prepare {folder}\n"
    assert "Downloading (megabytes): done (4)" in stderr
    assert "Unpacking files: done (3)" in stderr
    assert "Warning" not in stderr
    assert fake.KEY not in stderr
    assert {file.relative_to(folder).as_posix() for file in folder.rglob("*.*")} == set(fake.FILES)
    assert json.loads((tmp_path / "data" / f"{SLUG}.lock.json").read_text())["dataset"] == f"darren2020/{SLUG}"


def test_default_data_set_is_that_of_the_library():
    import inspect

    from monai_ctmri.cli.download import download
    from monai_ctmri.data.kaggle import DATASET

    assert inspect.signature(download).parameters["dataset"].default == DATASET


@needs_client
def test_a_second_call_says_so_and_asks_nothing(server, kaggle_json, call, tmp_path):
    assert call("--out", tmp_path / "data")[0] == 0
    server.requests.clear()
    for option in ([], ["--verify"]):
        code, stdout, stderr = call("--out", tmp_path / "data", *option)
        assert code == 0
        assert stdout.startswith(f"Already there and intact: {tmp_path / 'data' / SLUG}\n")
        assert ("Checking files: done (3)" in stderr) == bool(option)
    assert server.requests == []


@needs_client
def test_damage_is_one_line_and_force_mends_it(server, kaggle_json, call, tmp_path):
    assert call("--out", tmp_path, "--dataset", "a/b")[0] == 0
    (tmp_path / "b" / "Dataset" / "read me.txt").write_text("TWO pictures\n")
    assert call("--out", tmp_path, "--dataset", "a/b")[0] == 0
    code, stdout, stderr = call("--out", tmp_path, "--dataset", "a/b", "--verify")
    assert (code, stdout) == (2, "")
    assert stderr.splitlines()[-1].startswith(f"Error: {tmp_path / 'b'}: differs from b.lock.json in 1 of 3 files")
    assert "by hand" not in stderr
    assert call("--out", tmp_path, "--dataset", "a/b", "--force")[0] == 0
    assert call("--out", tmp_path, "--dataset", "a/b", "--verify")[0] == 0


@needs_client
@pytest.mark.skipif(sys.platform == "win32", reason="Windows has other permissions")
def test_a_key_others_may_read_is_one_warning(server, kaggle_json, call, tmp_path):
    kaggle_json.chmod(0o644)
    code, _, stderr = call("--out", tmp_path / "data")
    assert code == 0
    warnings = [line for line in stderr.splitlines() if "chmod" in line]
    assert len(warnings) == 1
    assert warnings[0].startswith("Warning: ")
    assert warnings[0].endswith(f"chmod 600 {kaggle_json}")


def test_without_a_key_the_steps_by_hand_are_shown(home, call, tmp_path):
    code, stdout, stderr = call("--out", tmp_path / "data")
    assert (code, stdout) == (2, "")
    check_steps(stderr, tmp_path / "data" / SLUG)
    assert len(stderr.splitlines()) == 7
    assert not (tmp_path / "data").exists()
    assert list(home.iterdir()) == []


@needs_client
@pytest.mark.parametrize("status", [401, 403, 404, 503])
def test_a_refusal_shows_the_steps_by_hand(server, kaggle_json, call, tmp_path, status):
    server.status = status
    code, stdout, stderr = call("--out", tmp_path / "data")
    assert (code, stdout) == (2, "")
    check_steps(stderr, tmp_path / "data" / SLUG)
    assert fake.KEY not in stderr
    assert not (tmp_path / "data").exists()


@needs_client
def test_an_unsafe_archive_shows_the_steps_by_hand(server, kaggle_json, call, tmp_path):
    server.archive = fake.zip_of({"../evil": b"evil"})
    code, stdout, stderr = call("--out", tmp_path / "data")
    assert (code, stdout) == (2, "")
    assert "leads out of the folder" in stderr.splitlines()[-1]
    assert "5. Run" in stderr
    assert not (tmp_path / "data").exists()
    assert not (tmp_path / "evil").exists()


def test_a_broken_key_file_is_one_line(kaggle_json, call, tmp_path):
    kaggle_json.write_text("{" + fake.KEY)
    code, stdout, stderr = call("--out", tmp_path / "data")
    assert (code, stdout) == (2, "")
    assert stderr.splitlines()[-1].startswith(f"Error: {kaggle_json}: ")
    assert fake.KEY not in stderr


def test_a_wrong_name_is_one_line(home, call, tmp_path):
    code, stdout, stderr = call("--out", tmp_path / "data", "--dataset", "../x")
    assert (code, stdout) == (2, "")
    assert stderr.startswith("Error: '../x': no name of a Kaggle data set")
    assert len(stderr.splitlines()) == 1


def test_a_folder_with_other_content_is_left_alone(home, call, tmp_path):
    (tmp_path / SLUG).mkdir()
    (tmp_path / SLUG / "mine.png").write_bytes(b"mine")
    code, _, stderr = call("--out", tmp_path)
    assert code == 2
    assert len(stderr.splitlines()) == 1
    assert "choose another --out" in stderr
    assert (tmp_path / SLUG / "mine.png").read_bytes() == b"mine"


@needs_client
@pytest.mark.skipif(sys.platform == "win32", reason="signals differ on Windows")
def test_an_interrupt_leaves_only_the_part_and_the_same_command_goes_on(server, kaggle_json, call, tmp_path):
    # A suite that runs in the background of a shell inherits that interrupts are ignored.
    code = f"""
import signal
signal.signal(signal.SIGINT, signal.default_int_handler)
import kagglesdk.kaggle_env as environment
environment._env_to_endpoint[environment.KaggleEnv.LOCAL] = {server.url!r}
from monai_ctmri import cli
cli.main()
"""
    server.stall_after = 2_500_000
    command = [sys.executable, "-c", code, "download", "--out", str(tmp_path / "data")]
    part = tmp_path / "data" / f"darren2020.{SLUG}.partial" / f"{SLUG}.zip"
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as running:
        deadline = time.monotonic() + 15
        while not (part.exists() and part.stat().st_size) and running.poll() is None and time.monotonic() < deadline:
            time.sleep(0.02)
        running.send_signal(signal.SIGINT)
        stdout, stderr = running.communicate(timeout=60)
    assert running.returncode == 130, stderr
    assert stdout == ""
    assert "continues where it stopped" in stderr
    assert [file.name for file in (tmp_path / "data").iterdir()] == [part.parent.name]
    size = part.stat().st_size
    assert size >= 2**20
    server.go_on.set()
    server.stall_after = None
    assert call("--out", tmp_path / "data")[0] == 0
    assert server.asked("/storage/")[-1]["Range"] == f"bytes={size}-"
    assert not part.parent.exists()
