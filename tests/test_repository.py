"""What a newcomer and a packager find at the top of the repository, checked against each other."""

from __future__ import annotations

import json
import os
import re
import shlex
import sys
from importlib import metadata
from itertools import pairwise
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version
from typer.main import get_command

import monai_ctmri
from monai_ctmri.cli import app

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
DECLARED = [Requirement(text) for text in (*PROJECT["dependencies"], *PROJECT["optional-dependencies"]["dev"])]
DIRECT = [one for one in DECLARED if one.marker is None or one.marker.evaluate()]
METADATA = sorted(ROOT.glob("bundles/*/configs/metadata.json"))
PAGES = ("README.md", "CONTRIBUTING.md", *(f"docs/{file.name}" for file in sorted((ROOT / "docs").glob("*.md"))))


def lines_of(name: str) -> list[str]:
    text = (ROOT / name).read_text(encoding="utf-8")
    return [line.strip() for line in text.splitlines() if line.strip() and not line.startswith("#")]


def constraints() -> dict[str, Requirement]:
    """Constraints that hold for the running Python, by canonical name."""
    pins = [Requirement(line) for line in lines_of("constraints.txt")]
    pins = [pin for pin in pins if pin.marker is None or pin.marker.evaluate()]
    assert len({canonicalize_name(pin.name) for pin in pins}) == len(pins), "a package is pinned twice"
    return {canonicalize_name(pin.name): pin for pin in pins}


def pinned(pin: Requirement) -> Version:
    (specifier,) = pin.specifier
    return Version(specifier.version)


def targets() -> set[str]:
    return set(re.findall(r"^([a-z]+)\s*:(?!=)", (ROOT / "Makefile").read_text(encoding="utf-8"), re.M))


def test_names_of_the_distribution_and_the_program():
    assert PROJECT["name"] == "monai-ctmri"
    assert PROJECT["requires-python"] == ">=3.10"
    assert PROJECT["license"] == "Apache-2.0"
    assert PROJECT["scripts"] == {"monai-ctmri": "monai_ctmri.cli:main"}


def test_version_is_written_once_and_is_a_version():
    assert "version" in PROJECT["dynamic"]
    assert str(Version(monai_ctmri.__version__)) == monai_ctmri.__version__


def test_constraints_are_exact():
    for line in lines_of("constraints.txt"):
        (specifier,) = Requirement(line).specifier
        assert specifier.operator == "==", line
        assert "*" not in specifier.version, line


@pytest.mark.parametrize("requirement", DIRECT, ids=lambda one: one.name)
def test_a_direct_dependency_is_pinned_to_what_is_allowed_and_installed(requirement):
    pins = constraints()
    name = canonicalize_name(requirement.name)
    assert name in pins, f"constraints.txt does not pin {requirement.name}"
    assert requirement.specifier.contains(pinned(pins[name]))
    # A build for one kind of processor has a local part (2.13.0+cpu) that no pin names.
    installed = Version(metadata.version(requirement.name)).public
    assert Version(installed) == pinned(pins[name]), "constraints.txt and the environment differ"


def test_both_python_lines_pin_every_direct_dependency():
    pins = [Requirement(line) for line in lines_of("constraints.txt")]
    for python in ("3.10", "3.11", "3.12"):
        held = {
            canonicalize_name(pin.name)
            for pin in pins
            if pin.marker is None or pin.marker.evaluate({"python_version": python})
        }
        assert {canonicalize_name(one.name) for one in DIRECT} <= held


def test_make_has_the_two_commands_of_a_newcomer():
    assert {"demo", "test", "lint", "format", "clean", "help"} <= targets()
    text = (ROOT / "Makefile").read_text(encoding="utf-8")
    phony = set(re.search(r"^\.PHONY:(.*)$", text, re.M).group(1).split())
    assert targets() <= phony


def test_continuous_integration_runs_both():
    script = ROOT / ".ci" / "run"
    assert os.access(script, os.X_OK)
    text = script.read_text(encoding="utf-8")
    assert text.startswith("#!")
    assert "set -euo pipefail" in text
    assert re.search(r"^make test\b", text, re.M)
    assert re.search(r"^make demo\b", text, re.M)


def commands_in(page: str) -> list[str]:
    """Lines of fenced blocks that call make, the program or MONAI's bundle runner; continued lines are joined."""
    found = []
    for language, block in re.findall(r"^```(\w*)\n(.*?)^```", (ROOT / page).read_text(encoding="utf-8"), re.M | re.S):
        if language in ("", "sh", "bash", "shell", "console", "text"):
            for line in block.replace("\\\n", " ").splitlines():
                line = line.strip().removeprefix("$ ")
                if re.match(r"(make|monai-ctmri|python -m monai\.bundle)\b", line):
                    found.append(line)
    return found


COMMANDS = [(page, line) for page in PAGES for line in commands_in(page)]


def test_readme_starts_with_the_two_commands():
    first, second, *_ = commands_in("README.md")
    assert shlex.split(first, comments=True) == ["make", "demo"]
    assert shlex.split(second, comments=True) == ["make", "test"]


@pytest.mark.parametrize(("page", "line"), COMMANDS, ids=[f"{page}: {line[:60]}" for page, line in COMMANDS])
def test_a_command_on_a_page_exists(page, line):
    words = shlex.split(line, comments=True)
    if words[0] == "make":
        assert {word for word in words[1:] if "=" not in word and not word.startswith("-")} <= targets()
    elif words[0] == "monai-ctmri":
        check_program(words[1:])
    else:
        check_bundle_run(words[3:])


def check_program(words: list[str]) -> None:
    program = get_command(app)
    if words[0].startswith("-"):
        assert words[0] == "--help"
        return
    command = program.commands[words[0]]
    known = {name for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts)}
    options = {word.split("=")[0] for word in words[1:] if word.startswith("-")}
    assert options <= known | {"--help"}


def check_bundle_run(words: list[str]) -> None:
    import monai.bundle.__main__ as runner

    assert hasattr(runner, words[0])
    for option, value in pairwise(words):
        if option in ("--config_file", "--meta_file", "--logging_file"):
            files = re.findall(r"[^\[\]'\", ]+", value)
            # Files of the reader's own have other folders.
            ours = [file for file in files if file.startswith("bundles/")]
            assert ours
            assert all((ROOT / file).is_file() for file in ours)


@pytest.mark.parametrize("page", PAGES)
def test_links_on_a_page_lead_to_files(page):
    text = re.sub(r"^```.*?^```", "", (ROOT / page).read_text(encoding="utf-8"), flags=re.M | re.S)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if not re.match(r"[a-z]+:|#", target):
            assert ((ROOT / page).parent / target.split("#")[0]).exists(), f"{page} links to {target}"


@pytest.mark.parametrize("name", ["CHANGELOG.md", "SECURITY.md", "CONTRIBUTING.md", "README.md", "CITATION.cff"])
def test_a_page_is_there_and_not_empty(name):
    assert len((ROOT / name).read_text(encoding="utf-8")) > 200


def test_changelog_has_an_unreleased_part_or_this_version():
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert "## [Unreleased]" in text or f"## [{monai_ctmri.__version__}]" in text


def test_license_is_the_apache_license_2_0():
    text = " ".join((ROOT / "LICENSE").read_text(encoding="utf-8").split())
    assert text.startswith("Apache License Version 2.0, January 2004")
    assert "END OF TERMS AND CONDITIONS" in text


def test_citation_has_the_keys_that_its_format_requires():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    # Required by the Citation File Format 1.2.0.
    assert {"authors", "cff-version", "message", "title"} <= set(citation)
    assert citation["cff-version"] == "1.2.0"
    assert citation["authors"]
    assert citation["version"] == monai_ctmri.__version__
    assert citation["license"] == "Apache-2.0"


@pytest.mark.parametrize("path", METADATA, ids=lambda path: path.parts[-3])
def test_what_a_bundle_requires_is_a_dependency_at_an_allowed_version(path):
    required = json.loads(path.read_text(encoding="utf-8"))["required_packages_version"]
    allowed = {canonicalize_name(one.name): one.specifier for one in DIRECT}
    for name, version in required.items():
        if canonicalize_name(name) == PROJECT["name"]:
            assert version == monai_ctmri.__version__
        else:
            assert canonicalize_name(name) in allowed, name
            assert allowed[canonicalize_name(name)].contains(version), f"{name} {version}"


def test_there_is_a_bundle():
    assert METADATA


def python_blocks() -> list[str]:
    return re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)


def test_the_readme_has_python_to_copy():
    assert python_blocks()


@pytest.mark.parametrize("block", python_blocks())
def test_python_of_the_readme_runs(block, tmp_path):
    from monai_ctmri.data.manifest import Manifest
    from monai_ctmri.data.phantom import write_phantom

    names: dict = {}
    exec(compile(block, "README.md", "exec"), names)
    case = names["load"](Manifest.read(write_phantom(tmp_path, 1, size=32, slices=1)).datalist()[0])
    for modality in ("ct", "mri"):
        assert case[modality].shape == (1, 32, 32)
        assert 0 <= float(case[modality].min()) < float(case[modality].max()) <= 1
