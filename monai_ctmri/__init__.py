"""Unsupervised cross-modal anomaly detection in brain CT and MRI, for MONAI.

Importing this package loads neither torch nor MONAI: import the room you need, e.g. ``monai_ctmri.transforms``.
"""

from __future__ import annotations

__version__ = "0.1.0"

__all__ = ["__version__"]
