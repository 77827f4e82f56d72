"""Where the bundles lie: inside the installed package, or beside it in a checkout."""

from __future__ import annotations

from pathlib import Path

from monai_ctmri.errors import InputError

__all__ = ["bundle_root"]

_PACKAGE = Path(__file__).resolve().parent


def bundle_root(name: str) -> Path:
    """Return the folder of a bundle that ships with this package.

    Args:
        name: folder name, e.g. ``brain_ctmri_autoencoder``.

    Returns:
        ``<package>/bundles/<name>`` of an installed wheel, else ``<repository>/bundles/<name>`` of a checkout.

    Raises:
        InputError: when neither holds ``configs/metadata.json``.
    """
    homes = (_PACKAGE / "bundles", _PACKAGE.parent / "bundles")
    if name and Path(name).name == name:
        for home in homes:
            if (home / name / "configs" / "metadata.json").is_file():
                return home / name
    found = sorted({file.parents[1].name for home in homes for file in home.glob("*/configs/metadata.json")})
    raise InputError.about(f"bundle {name!r}", "not found", f"choose one of: {', '.join(found) or 'none is installed'}")
