"""Where a key is found, in which order, and that it shows nowhere."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest

from monai_ctmri.data.downloads.kaggle_credentials import find_credentials, settings_folders
from monai_ctmri.errors import InputError

TOKEN, KEY = "KGAT_secretsecrettoken", "0123456789abcdefsecretkey"


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch) -> Path:
    for name in [*os.environ]:
        if name.startswith("KAGGLE_") or name == "XDG_CONFIG_HOME":
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    return tmp_path


def write(path: Path, content: object, mode: int = 0o600) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    path.chmod(mode)
    return path


def test_there_is_none():
    assert find_credentials() is None


def test_token_from_the_environment_or_the_file_it_names(home, monkeypatch):
    monkeypatch.setenv("KAGGLE_API_TOKEN", TOKEN)
    assert (found := find_credentials()) is not None
    assert (found.token, found.source) == (TOKEN, "KAGGLE_API_TOKEN")
    path = write(home / "token.txt", f"{TOKEN}2\n")
    monkeypatch.setenv("KAGGLE_API_TOKEN", str(path))
    assert (found := find_credentials()) is not None
    assert (found.token, found.source) == (f"{TOKEN}2", str(path))


def test_a_very_long_token_is_not_taken_for_a_path(monkeypatch):
    monkeypatch.setenv("KAGGLE_API_TOKEN", "x" * 5000)
    assert (found := find_credentials()) is not None
    assert found.token == "x" * 5000


@pytest.mark.parametrize("name", ["access_token", "access_token.txt"])
def test_token_from_the_clients_own_file(home, name):
    path = write(home / ".kaggle" / name, TOKEN)
    assert (found := find_credentials()) is not None
    assert (found.token, found.source) == (TOKEN, str(path))


def test_an_empty_token_file_is_passed_over(home):
    write(home / ".kaggle" / "access_token", "\n")
    assert find_credentials() is None


def test_order_is_token_then_variables_then_file_then_sign_in(home, monkeypatch):
    sign_in = write(home / ".kaggle" / "credentials.json", {"refresh_token": "r"})
    assert (found := find_credentials()) is not None
    assert (found.signed_in, found.source) == (True, str(sign_in))
    write(home / ".kaggle" / "kaggle.json", {"username": "file", "key": KEY})
    assert (found := find_credentials()) is not None
    assert (found.username, found.key, found.signed_in) == ("file", KEY, False)
    monkeypatch.setenv("KAGGLE_USERNAME", "variable")
    monkeypatch.setenv("KAGGLE_KEY", KEY + "2")
    assert (found := find_credentials()) is not None
    assert (found.username, found.key) == ("variable", KEY + "2")
    monkeypatch.setenv("KAGGLE_API_TOKEN", TOKEN)
    assert (found := find_credentials()) is not None
    assert (found.username, found.key, found.token) == (None, None, TOKEN)


def test_a_variable_overrides_one_half_of_the_file(home, monkeypatch):
    write(home / ".kaggle" / "kaggle.json", {"username": "file", "key": KEY})
    monkeypatch.setenv("KAGGLE_USERNAME", "variable")
    assert (found := find_credentials()) is not None
    assert (found.username, found.key) == ("variable", KEY)


def test_folders_that_are_searched(home, monkeypatch):
    assert settings_folders() == (home / ".kaggle", home / ".config" / "kaggle")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(home / "xdg"))
    assert settings_folders() == (home / ".kaggle", home / "xdg" / "kaggle")
    monkeypatch.setenv("KAGGLE_CONFIG_DIR", str(home / "given"))
    assert settings_folders() == (home / "given",)


def test_a_given_folder_is_the_only_one(home, monkeypatch):
    write(home / ".kaggle" / "kaggle.json", {"username": "file", "key": KEY})
    monkeypatch.setenv("KAGGLE_CONFIG_DIR", str(home / "given"))
    assert find_credentials() is None


@pytest.mark.parametrize(
    "content",
    [
        "{broken " + KEY,
        f'["{KEY}"]',
        "",
        {"username": "someone"},
        {"key": KEY},
        {"username": 1, "key": KEY},
        {"username": "", "key": KEY},
        {"username": "someone", "key": KEY + "\nX-Other: 1"},
        {"username": "some one", "key": KEY},
        {"username": "someone", "key": KEY + "ü"},
    ],
)
def test_a_file_that_holds_no_key_is_one_line_without_its_content(home, content):
    path = write(home / ".kaggle" / "kaggle.json", content)
    with pytest.raises(InputError) as stop:
        find_credentials()
    message = str(stop.value)
    assert message.startswith(f"{path}: ")
    assert "kaggle.com/settings" in message
    assert "\n" not in message
    assert KEY not in message
    assert stop.value.__cause__ is None
    assert stop.value.__context__ is None or stop.value.__suppress_context__


def test_a_binary_file_is_one_line(home):
    path = write(home / ".kaggle" / "kaggle.json", "")
    path.write_bytes(b"\xff\xfe\x00\x01")
    with pytest.raises(InputError, match="not text"):
        find_credentials()


def test_a_sign_in_without_its_token_is_one_line(home):
    write(home / ".kaggle" / "credentials.json", {"access_token": TOKEN})
    with pytest.raises(InputError, match="kaggle auth login"):
        find_credentials()


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="the superuser reads every file")
def test_a_file_that_may_not_be_read_is_named(home):
    path = write(home / ".kaggle" / "kaggle.json", {"username": "someone", "key": KEY}, 0o000)
    with pytest.raises(InputError, match=f"chmod 600 {path}"):
        find_credentials()


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has other permissions")
@pytest.mark.parametrize("name", ["kaggle.json", "access_token", "credentials.json"])
@pytest.mark.parametrize(("mode", "warned"), [(0o600, 0), (0o400, 0), (0o640, 1), (0o604, 1), (0o644, 1), (0o666, 1)])
def test_a_file_others_may_read_is_warned_of(home, caplog, name, mode, warned):
    content = TOKEN if name == "access_token" else {"username": "u", "key": KEY, "refresh_token": "r"}
    path = write(home / ".kaggle" / name, content, mode)
    assert find_credentials() is not None
    assert len(caplog.messages) == warned
    for message in caplog.messages:
        assert f"chmod 600 {path}" in message
        assert KEY not in message
        assert TOKEN not in message
    assert path.stat().st_mode & 0o777 == mode, "the file is the user's to change"


def test_the_key_does_not_show_in_the_representation(home, monkeypatch):
    monkeypatch.setenv("KAGGLE_USERNAME", "someone")
    monkeypatch.setenv("KAGGLE_KEY", KEY)
    assert KEY not in f"{find_credentials()!r} {find_credentials()}"
    monkeypatch.setenv("KAGGLE_API_TOKEN", TOKEN)
    assert TOKEN not in f"{find_credentials()!r} {find_credentials()}"
