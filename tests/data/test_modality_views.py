"""A pair is listed three times, what has one modality once."""

from __future__ import annotations

from monai_ctmri.data.modality_views import with_single_modalities

PAIR = {"case": "p", "subject": "s", "label": 0, "ct": "p_ct.png", "mri": "p_mri.png"}
CT = {"case": "c", "subject": "s", "label": 0, "ct": "c_ct.png"}


def test_a_pair_comes_whole_and_in_parts() -> None:
    found = with_single_modalities([PAIR, CT])
    assert found == [
        PAIR,
        {"case": "p-only-ct", "subject": "s", "label": 0, "ct": "p_ct.png"},
        {"case": "p-only-mri", "subject": "s", "label": 0, "mri": "p_mri.png"},
        CT,
    ]
    assert set(PAIR) == {"case", "subject", "label", "ct", "mri"}


def test_one_modality_alone_repeats_nothing() -> None:
    assert with_single_modalities([CT], ["ct"]) == [CT]
    assert with_single_modalities([], ["ct", "mri"]) == []
