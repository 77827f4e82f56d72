"""The real client against a server of our own: what is downloaded, continued, refused and left behind."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import pickle
import stat
import subprocess
import sys
import threading
import time
import zipfile
from collections import namedtuple
from pathlib import Path

import pytest

from monai_ctmri.data import kaggle
from monai_ctmri.errors import InputError

spec = importlib.util.spec_from_file_location("kaggle_server", Path(__file__).with_name("kaggle_server.py"))
fake = importlib.util.module_from_spec(spec)
spec.loader.exec_module(fake)

if sys.version_info < (3, 11):
    pytest.skip("kaggle needs Python 3.11 or newer", allow_module_level=True)

DATASET = "owner1/some-data"
CALL, STORAGE = "DatasetApiService/DownloadDataset", "/storage/archive.zip"


@pytest.fixture
def home(tmp_path, monkeypatch) -> Path:
    """An empty home folder; no variable of the machine's own reaches the client."""
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
def token(monkeypatch) -> str:
    monkeypatch.setenv("KAGGLE_API_TOKEN", fake.TOKEN)
    return fake.TOKEN


@pytest.fixture
def out(tmp_path) -> Path:
    return tmp_path / "out"


def client_class():
    from kaggle.api.kaggle_api_extended import KaggleApi

    return KaggleApi


def failure(out: Path, **options) -> str:
    """Message of a download that must fail with steps to take by hand."""
    with pytest.raises(kaggle.DownloadError) as stop:
        kaggle.download(DATASET, out, **{"retries": 0, **options})
    assert len(stop.value.steps) == 5
    message = str(stop.value)
    assert "\n" not in message
    for secret in (fake.TOKEN, fake.KEY, "opens-it-for-anyone"):
        assert secret not in message
    return message


def check_content(folder: Path, files: dict[str, bytes] = fake.FILES) -> None:
    found = {file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.is_file()}
    assert found == set(files)
    for name, content in files.items():
        assert (folder / name).read_bytes() == content


def test_download_with_a_token(server, token, out, capfd):
    folder = kaggle.download(DATASET, out)
    assert folder == out / "some-data"
    check_content(folder)
    assert sorted(file.name for file in out.iterdir()) == ["some-data", "some-data.lock.json"]
    assert server.asked(CALL)[0]["Authorization"] == f"Bearer {fake.TOKEN}"
    assert server.bodies(CALL) == [{"ownerSlug": "owner1", "datasetSlug": "some-data"}]
    # The storage is another host: the key must not go there.
    assert "Authorization" not in server.asked(STORAGE)[0]
    assert capfd.readouterr() == ("", "")


def test_lock_file_holds_sizes_and_checksums_and_no_secret(server, token, out):
    started = time.time()
    kaggle.download(DATASET, out)
    text = (out / "some-data.lock.json").read_text()
    lock = json.loads(text)
    assert (lock["dataset"], lock["version"]) == (DATASET, 7)
    assert lock["archive"]["size"] == len(server.archive)
    assert lock["archive"]["sha256"] == hashlib.sha256(server.archive).hexdigest()
    assert lock["n_files"] == 3
    assert lock["n_bytes"] == sum(map(len, fake.FILES.values()))
    for name, content in fake.FILES.items():
        assert lock["files"][name] == {"size": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    assert lock["url"] == "http://localhost/storage/archive.zip"
    assert "opens-it" not in text
    assert fake.TOKEN not in text
    from datetime import datetime

    assert abs(datetime.fromisoformat(lock["time"]).timestamp() - started) < 60
    assert lock["client"].startswith("kaggle 2.")


def basic(username: str, key: str) -> str:
    import base64

    return "Basic " + base64.b64encode(f"{username}:{key}".encode()).decode()


def test_download_with_name_and_key_from_the_environment(server, out, monkeypatch):
    monkeypatch.setenv("KAGGLE_USERNAME", "someone")
    monkeypatch.setenv("KAGGLE_KEY", fake.KEY)
    check_content(kaggle.download(DATASET, out))
    assert server.asked(CALL)[0]["Authorization"] == basic("someone", fake.KEY)


@pytest.mark.parametrize("place", [".kaggle", ".config/kaggle", "elsewhere"])
def test_download_with_kaggle_json(server, home, out, place, monkeypatch, caplog):
    path = home / place / "kaggle.json"
    path.parent.mkdir(parents=True)
    if place == "elsewhere":
        monkeypatch.setenv("KAGGLE_CONFIG_DIR", str(path.parent))
    elif place == ".config/kaggle":
        (home / ".kaggle").mkdir()  # The client alone would look no further.
    path.write_text(json.dumps({"username": "someone", "key": fake.KEY}))
    path.chmod(0o600)
    check_content(kaggle.download(DATASET, out))
    assert server.asked(CALL)[0]["Authorization"] == basic("someone", fake.KEY)
    assert caplog.messages == []


def test_download_after_signing_in_with_the_client(server, home, out):
    (home / ".kaggle").mkdir()
    content = {"refresh_token": "r", "access_token": fake.TOKEN, "access_token_expiration": "2999-01-01T00:00:00+00:00"}
    (home / ".kaggle" / "credentials.json").write_text(json.dumps(content))
    (home / ".kaggle" / "credentials.json").chmod(0o600)
    check_content(kaggle.download(DATASET, out))
    assert server.asked(CALL)[0]["Authorization"] == f"Bearer {fake.TOKEN}"


def test_a_version_is_asked_for_and_noted(server, token, out):
    kaggle.download(f"{DATASET}/3", out)
    assert server.bodies(CALL)[0]["datasetVersionNumber"] == 3
    assert json.loads((out / "some-data.lock.json").read_text())["version"] == 3
    with pytest.raises(InputError, match="holds version 3"):
        kaggle.download(f"{DATASET}/4", out)


def test_an_archive_that_comes_without_a_redirect(server, token, out):
    server.direct = True
    check_content(kaggle.download(DATASET, out))
    assert server.asked(STORAGE) == []


def test_without_a_redirect_a_cut_transfer_starts_anew(server, token, out):
    server.direct, server.cut_after = True, [2_500_000]
    assert "cut after" in failure(out, retries=5)
    check_content(kaggle.download(DATASET, out))
    assert not any("Range" in headers for headers in server.asked(CALL))


def test_a_second_call_does_nothing(server, token, out):
    folder = kaggle.download(DATASET, out)
    before = {file: file.stat().st_mtime_ns for file in out.rglob("*")}
    server.requests.clear()
    assert kaggle.download(DATASET, out) == folder
    assert kaggle.find_download(DATASET, out, verify=True) == folder
    assert server.requests == []
    assert {file: file.stat().st_mtime_ns for file in out.rglob("*")} == before


def test_progress_ends_where_it_should(server, token, out):
    seen: list[tuple[str, int, int]] = []
    kaggle.download(DATASET, out, progress=lambda *step: seen.append(step))
    assert seen[-3:] == [("Unpacking files", done, 3) for done in (1, 2, 3)]
    assert ("Downloading (megabytes)", 4, 4) in seen  # 3,000,513 bytes and the directory: begun the fourth.
    assert all(0 <= done <= total for _, done, total in seen)


def test_a_cut_connection_leaves_a_part_and_the_next_call_goes_on_there(server, token, out):
    server.cut_after = [2_500_000]
    message = failure(out)
    assert [file.name for file in out.iterdir()] == ["owner1.some-data.partial"]
    part = out / "owner1.some-data.partial" / "some-data.zip"
    size = part.stat().st_size
    assert 0 < size < 2_500_001
    assert f"cut after {size} bytes" in message
    assert part.read_bytes() == server.archive[:size]
    server.requests.clear()
    check_content(kaggle.download(DATASET, out))
    assert server.asked(STORAGE)[-1]["Range"] == f"bytes={size}-"
    assert sorted(file.name for file in out.iterdir()) == ["some-data", "some-data.lock.json"]


def test_a_cut_connection_is_tried_again_in_the_same_call(server, token, out, monkeypatch):
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    server.cut_after = [1_500_000, 2_700_000]
    check_content(kaggle.download(DATASET, out, retries=2))
    assert sum("Range" in headers for headers in server.asked(STORAGE)) == 2


def test_a_part_of_another_state_is_not_built_on(server, token, out):
    server.cut_after = [2_500_000]
    failure(out)
    server.etag, server.archive = '"two"', fake.zip_of({"other.bin": bytes(range(256)) * 12_000})
    check_content(kaggle.download(DATASET, out), {"other.bin": bytes(range(256)) * 12_000})


def test_a_complete_archive_is_not_fetched_twice(server, token, out, monkeypatch):
    usage, real = namedtuple("usage", "total used free"), __import__("shutil").disk_usage
    # Enough to fetch; full when it comes to unpacking.
    monkeypatch.setattr("monai_ctmri.data.downloads.archives.shutil.disk_usage", lambda path: usage(0, 0, free.pop(0)))
    free = [10**9, 10]
    assert "10 free" in failure(out)
    assert (out / "owner1.some-data.partial" / "some-data.zip").stat().st_size == len(server.archive)
    monkeypatch.setattr("shutil.disk_usage", real)
    sent: list[bool] = []
    monkeypatch.setattr(client_class(), "download_file", lambda *_, **__: sent.append(True))
    check_content(kaggle.download(DATASET, out))
    assert sent == []


def test_too_little_disk_space_is_seen_before_the_body(server, token, out, monkeypatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr("shutil.disk_usage", lambda path: usage(0, 0, 4_000_000))
    assert "4000000 free" in failure(out)
    assert not out.exists()


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (401, "does not know the key from KAGGLE_API_TOKEN"),
        (403, "accept the terms"),
        (404, "no such data set"),
        (429, "asks to wait"),
        (500, "a fault (500)"),
        (503, "a fault (503)"),
        (400, "refuses the request (400)"),
    ],
)
def test_an_answer_that_refuses_is_one_line_and_leaves_nothing(server, token, out, status, words, capfd):
    server.status = status
    assert words in failure(out)
    assert not out.exists()
    assert capfd.readouterr() == ("", "")


def test_a_web_page_instead_of_an_archive(server, token, out):
    server.archive, server.content_type = b"<html>Sign in</html>", "text/html; charset=utf-8"
    assert "web page" in failure(out)
    assert not out.exists()
    server.content_type = "application/octet-stream"
    assert "no intact ZIP" in failure(out)
    assert not out.exists()


def link() -> zipfile.ZipInfo:
    info = zipfile.ZipInfo("link")
    info.create_system, info.external_attr = 3, (stat.S_IFLNK | 0o777) << 16
    return info


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (lambda: fake.zip_of({"../evil": b"evil"}), "leads out"),
        (lambda: fake.zip_of({link(): b"/etc"}), "is a link"),
        (lambda: fake.zip_of({"bomb": b"\0" * 30_000_000}, zipfile.ZIP_DEFLATED), "250 times"),
        (lambda: fake.zip_of(fake.FILES)[:-2_000], "no intact ZIP"),
    ],
    ids=["../evil", "link", "bomb", "truncated"],
)
def test_an_archive_that_is_not_safe_is_removed(server, token, out, content, words):
    server.archive = content()
    assert words in failure(out)
    assert not out.exists()
    assert not (out.parent / "evil").exists()


def test_an_archive_over_the_limit_is_refused_before_its_body(server, token, out):
    assert "more than 1000" in failure(out, max_bytes=1000)
    assert not out.exists()


def test_without_network(server, token, out, monkeypatch):
    import socket

    import kagglesdk.kaggle_env as environment

    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))  # Bound and not listening: connections are refused.
        address = f"http://127.0.0.1:{closed.getsockname()[1]}"
        monkeypatch.setitem(environment._env_to_endpoint, environment.KaggleEnv.LOCAL, address)
        assert "cannot be reached" in failure(out)
    monkeypatch.setitem(environment._env_to_endpoint, environment.KaggleEnv.LOCAL, "http://no-such-host.invalid")
    assert "cannot be reached" in failure(out)
    assert not out.exists()


def test_a_server_that_never_answers_is_given_up(server, token, out, monkeypatch):
    from requests.adapters import HTTPAdapter

    send = HTTPAdapter.send
    monkeypatch.setattr("monai_ctmri.data.downloads.kaggle_client._TIMEOUT", 0.2)
    server.silent = True
    assert "does not answer" in failure(out)
    assert not out.exists()
    assert HTTPAdapter.send is send


def test_a_transfer_that_stands_still_is_given_up(server, token, out, monkeypatch):
    monkeypatch.setattr("monai_ctmri.data.downloads.kaggle_client._TIMEOUT", 0.3)
    server.stall_after = 2_000_000
    assert "cut after" in failure(out)
    assert [file.name for file in out.iterdir()] == ["owner1.some-data.partial"]


def test_without_credentials_the_client_is_not_even_imported(home, out, monkeypatch):
    monkeypatch.setitem(sys.modules, "kaggle", None)
    message = failure(out)
    assert "no Kaggle key found" in message
    assert "kaggle.com/settings" in message
    assert not out.exists()
    assert list(home.iterdir()) == []


@pytest.mark.parametrize(("missing", "words"), [("kaggle", "pip install kaggle"), ("six", "pip install six")])
def test_a_client_that_cannot_be_imported(home, token, out, monkeypatch, missing, words):
    for name in [*sys.modules]:
        if name.split(".")[0] in ("kaggle", missing):
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, missing, None)
    assert words in failure(out)
    assert not out.exists()


@pytest.mark.parametrize("error", [SystemExit(1), KeyError("x"), ValueError("secret")])
def test_whatever_the_client_does_is_one_line(server, token, out, monkeypatch, error):
    def fail(self, response, outfile, *_, **__):
        Path(outfile).parent.mkdir(parents=True)
        Path(outfile).write_bytes(b"an error page")
        raise error

    monkeypatch.setattr(client_class(), "download_file", fail)
    assert f"client failed ({type(error).__name__})" in failure(out)
    assert not out.exists()


def test_steps_by_hand_lead_to_the_same_folder(out):
    first, *_, unpacking, last = kaggle.manual_steps(DATASET, out)
    assert "https://www.kaggle.com/datasets/owner1/some-data " in first
    assert unpacking.endswith(str(out / "some-data"))
    assert last.endswith(f"monai-ctmri prepare {out / 'some-data'}")


def test_an_error_survives_pickling_with_its_steps():
    error = kaggle.DownloadError("one line")
    error.steps = ("one", "two")
    again = pickle.loads(pickle.dumps(error))
    assert (str(again), again.steps) == ("one line", ("one", "two"))


@pytest.mark.parametrize(
    "name",
    [
        "",
        "name",
        "a/b/c",
        "a/b/0",
        "a/b/3/4",
        "../b",
        "a/..",
        "a/b\n",
        "a/b?x=1",
        "/a/b",
        "a//b",
        "ä/b",
        "https://k.com/a/b",
    ],
)
def test_a_name_that_is_none_is_refused(out, name):
    with pytest.raises(InputError, match="owner/name") as stop:
        kaggle.download(name, out)
    assert "\n" not in str(stop.value)
    assert not out.exists()


def test_a_folder_that_is_not_ours_is_left_alone(server, token, out):
    (out / "some-data").mkdir(parents=True)
    (out / "some-data" / "mine.png").write_bytes(b"mine")
    for force in (False, True):
        with pytest.raises(InputError, match="was not made by a download; choose another --out"):
            kaggle.download(DATASET, out, force=force)
    assert server.requests == []
    assert (out / "some-data" / "mine.png").read_bytes() == b"mine"
    assert [file.name for file in out.iterdir()] == ["some-data"]


def test_an_empty_folder_is_used(server, token, out):
    (out / "some-data").mkdir(parents=True)
    check_content(kaggle.download(DATASET, out))


def test_a_download_of_another_owner_is_left_alone(server, token, out):
    kaggle.download(DATASET, out)
    for force in (False, True):
        with pytest.raises(InputError, match="another data set"):
            kaggle.download("owner2/some-data", out, force=force)
    check_content(out / "some-data")


def test_damage_is_reported_and_force_mends_it(server, token, out):
    folder = kaggle.download(DATASET, out)
    text = folder / "Dataset" / "read me.txt"
    text.write_bytes(b"TWO pictures\n")
    assert kaggle.find_download(DATASET, out) == folder  # The size is the same.
    with pytest.raises(InputError, match=r"1 of 3 files .*read me.txt has another content.*--force"):
        kaggle.find_download(DATASET, out, verify=True)
    text.unlink()
    with pytest.raises(InputError, match=r"read me.txt is missing"):
        kaggle.download(DATASET, out)
    check_content(kaggle.download(DATASET, out, force=True))
    assert sorted(file.name for file in out.iterdir()) == ["some-data", "some-data.lock.json"]


def test_force_never_deletes_what_was_added(server, token, out):
    folder = kaggle.download(DATASET, out)
    (folder / "notes.txt").write_text("mine")
    assert kaggle.download(DATASET, out) == folder
    with pytest.raises(InputError, match=r"notes\.txt"):
        kaggle.download(DATASET, out, force=True)
    assert (folder / "notes.txt").read_text() == "mine"


def test_a_failed_force_keeps_the_earlier_download(server, token, out):
    kaggle.download(DATASET, out)
    lock = (out / "some-data.lock.json").read_bytes()
    server.archive = fake.zip_of({"../evil": b"evil"})
    failure(out, force=True)
    check_content(out / "some-data")
    assert (out / "some-data.lock.json").read_bytes() == lock
    assert sorted(file.name for file in out.iterdir()) == ["some-data", "some-data.lock.json"]


def test_the_first_import_of_the_client_leaves_no_trace(server, home, out):
    """In a process of its own: the import prints, asks the network and makes a folder in the home folder."""
    code = f"""
import sys, kagglesdk.kaggle_env as environment
environment._env_to_endpoint[environment.KaggleEnv.LOCAL] = {server.url!r}
from monai_ctmri.data.kaggle import download
assert "kaggle" not in sys.modules
download({DATASET!r}, {str(out)!r})
assert "kaggle" in sys.modules
assert "torch" not in sys.modules and "monai" not in sys.modules
"""
    environment = {**os.environ, "KAGGLE_API_TOKEN": fake.TOKEN, "VERBOSE": "true"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""
    assert fake.TOKEN not in done.stderr
    assert not (home / ".config" / "kaggle").exists()
    check_content(out / "some-data")
