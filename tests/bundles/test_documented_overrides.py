"""Every override that a page gives exists: MONAI takes a misspelt name for a new value, which nothing uses."""

from __future__ import annotations

import functools
import inspect
import re
import shlex
from pathlib import Path

import monai.bundle.__main__ as runner
import pytest
import yaml
from bundle_runs import BUNDLES, bundle_folders
from monai.bundle import ConfigParser

from monai_ctmri.engines.export import export_program

ROOT = BUNDLES.parent
PAGES = sorted(
    [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("benchmarks/*.md"), *BUNDLES.glob("*/docs/*.md")]
)
LONG_OPTION = re.compile(r"^--([A-Za-z_][\w:#]*)")


def home_of(page: Path) -> Path | None:
    """What a page means by BUNDLE: the bundle whose README it is, else the one that it assigns."""
    if page.parent.parent.parent == BUNDLES:
        return page.parent.parent
    assigned = re.search(r"\bBUNDLE=.*?\b(brain_ctmri_\w+)", page.read_text(encoding="utf-8"))
    return BUNDLES / assigned[1] if assigned else None


def fenced(text: str) -> list[tuple[str, str]]:
    """(language, content) of each fenced block."""
    return re.findall(r"^```(\w*)\n(.*?)^```", text, re.M | re.S)


def commands_in(text: str) -> list[list[str]]:
    """The words of each command that runs MONAI's bundle runner or our export, from the verb on."""
    found = []
    for language, block in fenced(text):
        if language in ("", "sh", "bash", "shell", "console", "text", "slurm"):
            for line in block.replace("\\\n", " ").splitlines():
                runs = re.search(r"-m (?:monai\.bundle|fire monai_ctmri\.engines\.export) (.*)", line)
                if runs:
                    found.append(shlex.split(runs[1], comments=True))
    return found


def options_of(words: list[str]) -> dict[str, str]:
    """Long options of a command with their values (an empty text without one)."""
    given = {}
    for position, word in enumerate(words):
        if option := LONG_OPTION.match(word):
            _, equals, value = word.partition("=")
            following = words[position + 1] if position + 1 < len(words) else ""
            given[option[1]] = value if equals else "" if LONG_OPTION.match(following) else following
    return given


def own_files(value: str, home: Path | None) -> list[str]:
    """Paths of ours in the value of ``--config_file``; a file of the reader's own is left out."""
    names = re.findall(r"[^\[\]'\", ]+", value)
    if home is not None:
        names = [re.sub(r"^(\$\{?)?BUNDLE\}?/", f"{home}/", name) for name in names]
    # A path that a script makes up of a variable ends in the same place.
    names = [re.sub(r"^.*?(?=bundles/brain_ctmri_)", f"{ROOT}/", name) for name in names]
    return [name for name in names if name.startswith(f"{BUNDLES}/")]


@functools.cache
def parser_of(files: tuple[str, ...]) -> ConfigParser:
    parser = ConfigParser()
    parser.read_config(list(files))
    return parser


def unknown_overrides(words: list[str], home: Path | None) -> list[str]:
    """Options of a command that neither its verb nor the configurations it names know."""
    given = options_of(words)
    verb = export_program if words[0] == "export_program" else getattr(runner, words[0])
    parameters = inspect.signature(verb).parameters.values()
    known = {one.name for one in parameters if one.kind is not one.VAR_KEYWORD}
    names = [name for name in given if name not in known]
    if not names:
        return []
    files = own_files(given.get("config_file", ""), home)
    if not files:
        return names
    parser = parser_of(tuple(files))
    return [name for name in names if name not in parser]


COMMANDS = [(page, words) for page in PAGES for words in commands_in(page.read_text(encoding="utf-8"))]


def test_there_are_commands_with_overrides() -> None:
    assert len(COMMANDS) >= 10
    assert {page.name for page, _ in COMMANDS} >= {"README.md", "quickstart.md", "export.md"}
    assert any("max_epochs" in options_of(words) for _, words in COMMANDS)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_overrides_of_the_commands_exist(page: Path) -> None:
    for words in commands_in(page.read_text(encoding="utf-8")):
        assert hasattr(runner, words[0]) or words[0] == "export_program"
        for file in own_files(options_of(words).get("config_file", ""), home_of(page)):
            assert Path(file).is_file(), f"{page}: {file} does not exist"
        assert unknown_overrides(words, home_of(page)) == [], " ".join(words)


@pytest.mark.parametrize("folder", bundle_folders(), ids=lambda folder: folder.name)
def test_overrides_in_the_prose_of_a_readme_exist(folder: Path) -> None:
    """`--name value` between backticks: in one of the bundle's configurations, or an option of the runner."""
    text = re.sub(r"^```.*?^```", "", (folder / "docs" / "README.md").read_text(encoding="utf-8"), flags=re.M | re.S)
    parsers = [parser_of((str(folder / "configs" / name),)) for name in ("train.yaml", "inference.yaml")]
    options = set(inspect.signature(runner.run).parameters)
    for path in (folder / "configs").glob("*.yaml"):
        options |= set(yaml.safe_load(path.read_text(encoding="utf-8")))  # what an overlay adds at its top
    for name in re.findall(r"`--([A-Za-z_][\w:#]*)[^`]*`", text):
        assert name in options or any(name in parser for parser in parsers), f"--{name}"


def test_values_of_the_overlay_on_the_page_exist() -> None:
    text = (ROOT / "docs" / "extend-a-bundle.md").read_text(encoding="utf-8")
    (overlay, *_) = [yaml.safe_load(block) for language, block in fenced(text) if language == "yaml"]
    (words, *_) = commands_in(text)
    parser = parser_of(tuple(own_files(options_of(words)["config_file"], None)))
    assert [name for name in overlay if name not in parser] == []
    for name in re.findall(r"`([a-z_]+(?:::\w+)+)[:`]", text):
        assert name in parser, name


@pytest.mark.parametrize(
    ("command", "unknown"),
    [
        ("--max_epochs 5", []),
        ("--max_epoch 5", ["max_epoch"]),
        ("--max_epochs=5 --batchsize=2", ["batchsize"]),
        ("--train::trainer::max_epochs 5", []),
        ("'--train#trainer#max_epochs' 5", []),
        ("--train::trainer::max_epoch 5", ["train::trainer::max_epoch"]),
        ("--train::handlers::0::interval 5", []),
        ("--train::handlers::99::interval 5", ["train::handlers::99::interval"]),
        ("--resume False --tracking mlflow --evaluated_split test", ["evaluated_split"]),
    ],
)
def test_a_misspelt_override_is_caught(command: str, unknown: list[str]) -> None:
    page = f"```\ntorchrun -m monai.bundle run \\\n  --config_file BUNDLE/configs/train.yaml {command}\n```\n"
    (words,) = commands_in(page)
    assert unknown_overrides(words, BUNDLES / "brain_ctmri_autoencoder") == unknown


def test_an_overlay_brings_its_own_values() -> None:
    files = "['BUNDLE/configs/train.yaml', 'BUNDLE/configs/evaluate.yaml', 'site.yaml']"
    (words,) = commands_in(
        f'```\npython -m monai.bundle run --config_file "{files}" --evaluated_split test --splitt test\n```\n'
    )
    assert unknown_overrides(words, BUNDLES / "brain_ctmri_autoencoder") == ["splitt"]
