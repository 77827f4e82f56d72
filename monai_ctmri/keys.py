"""Names of a case's entries, so that no module spells them by hand."""

from __future__ import annotations

CASE = "case"
CT = "ct"
MRI = "mri"
IMAGE = "image"
PRESENT = "present"
PRED = "pred"
ANOMALY_MAP = "anomaly_map"
SCORE = "score"
FEATURES = "features"
LABEL = "label"
MASK = "mask"
SUBJECT = "subject"
SPLIT = "split"
TARGET = "target"
SCORES = "scores"
NOTE = "note"

MODALITIES = (CT, MRI)
