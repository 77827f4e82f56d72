"""Which packages the configurations of a bundle need, read off the source of the modules they name."""

from __future__ import annotations

import ast
import re
import sys
from pathlib import Path

from packaging.utils import canonicalize_name

import monai_ctmri

PACKAGE = Path(monai_ctmri.__file__).resolve().parent
DISTRIBUTIONS = {
    "PIL": "pillow",
    "ignite": "pytorch-ignite",
    "skimage": "scikit-image",
    "sklearn": "scikit-learn",
    "yaml": "pyyaml",
}
"""Names of distributions that are not those of their module."""
# What MONAI itself imports for a configuration that holds these words.
BEHIND_MONAI = {
    r"monai\.(engines|handlers)": "pytorch-ignite",
    "TensorBoard": "tensorboard",
    r"imports:": "pyyaml",
    "main_process": "fire",
}


def module_file(name: str) -> Path | None:
    place = PACKAGE.parent.joinpath(*name.split("."))
    return next((path for path in (place.with_suffix(".py"), place / "__init__.py") if path.is_file()), None)


def imports_of(path: Path) -> set[str]:
    """What a module imports when it is loaded itself: not in functions, not for the type checker."""
    found: set[str] = set()
    package = path.relative_to(PACKAGE.parent).parent.parts
    waiting: list[ast.AST] = list(ast.parse(path.read_text()).body)
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = ".".join([*package[: len(package) + 1 - node.level], *([node.module] if node.module else [])])
            base = base if node.level else str(node.module)
            found |= {base, *(f"{base}.{alias.name}" for alias in node.names)}
        elif not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)) and not (
            isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        ):
            waiting += ast.iter_child_nodes(node)
    return found


def outside_imports(names: set[str]) -> set[str]:
    """Top-level names of other packages that loading these modules of ours, and all behind them, imports."""
    seen: set[str] = set()
    outside: set[str] = set()
    waiting = set(names)
    while waiting:
        name = waiting.pop()
        if not name.startswith("monai_ctmri"):
            outside.add(name.partition(".")[0])
            continue
        parts = name.split(".")
        for length in range(1, len(parts) + 1):  # the packages a module lies in are loaded before it
            one = ".".join(parts[:length])
            path = module_file(one)
            if path is not None and one not in seen:
                seen.add(one)
                waiting |= imports_of(path)
    return outside - set(sys.stdlib_module_names)


def needed_packages(bundle: Path, called: set[str]) -> set[str]:
    """Distributions without which the bundle's configurations cannot be read or run; ``called``: imported meanwhile."""
    texts = [path.read_text() for path in (bundle / "configs").glob("*.yaml")]
    named = {name for text in texts for name in re.findall(r"\bmonai_ctmri(?:\.\w+)+", text)}
    found = {DISTRIBUTIONS.get(name, name) for name in outside_imports(named | called)} | {"monai-ctmri"}
    found |= {package for words, package in BEHIND_MONAI.items() if any(re.search(words, text) for text in texts)}
    return {canonicalize_name(name) for name in found} - {"torch", "numpy", "monai"}
