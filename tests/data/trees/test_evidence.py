"""The records that the steps of discovery exchange."""

from __future__ import annotations

from dataclasses import FrozenInstanceError
from pathlib import Path

import pytest

from monai_ctmri.data.trees.evidence import DraftCase, Evidence, Layout, Placed


def test_evidence_cannot_be_changed() -> None:
    evidence = Evidence("a claim", "its basis", "a verdict")
    with pytest.raises(FrozenInstanceError):
        evidence.verdict = "another"  # type: ignore[misc]


def test_reasons_are_kept_in_order() -> None:
    layout = Layout("names")
    layout.say("first", "b", "v")
    layout.say("second", "b", "v")
    assert [item.claim for item in layout.evidence] == ["first", "second"]


def test_a_drafts_subject_is_that_of_the_image_that_knows_it() -> None:
    ct = Placed(Path("a.png"), (), "a", "picture", "ct")
    mri = Placed(Path("b.png"), (), "b", "picture", "mri", subject="p01")
    assert DraftCase(ct, mri).images == [ct, mri]
    assert DraftCase(ct, mri).subject == "p01"
    assert DraftCase(ct).subject is None
