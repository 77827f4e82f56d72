"""Names of a case's entries: part of every file format and bundle, so a change breaks what users wrote."""

from __future__ import annotations

from monai_ctmri import keys

CONTRACT = {
    "CASE": "case",
    "CT": "ct",
    "MRI": "mri",
    "IMAGE": "image",
    "PRESENT": "present",
    "PRED": "pred",
    "ANOMALY_MAP": "anomaly_map",
    "SCORE": "score",
    "FEATURES": "features",
    "LABEL": "label",
    "MASK": "mask",
    "SUBJECT": "subject",
    "SPLIT": "split",
    "NOTE": "note",
    "TARGET": "target",
    "SCORES": "scores",
}


def names() -> dict[str, str]:
    return {name: value for name, value in vars(keys).items() if name.isupper() and isinstance(value, str)}


def test_are_those_of_the_contract():
    assert names() == CONTRACT


def test_no_two_are_alike_and_each_can_be_an_argument_name():
    assert len(set(names().values())) == len(names())
    assert all(value.isidentifier() for value in names().values())


def test_ct_is_the_first_channel_and_mri_the_second():
    assert keys.MODALITIES == ("ct", "mri")


def test_pred_and_image_are_the_names_of_monai():
    from monai.utils.enums import CommonKeys

    assert (keys.IMAGE, keys.LABEL, keys.PRED) == (CommonKeys.IMAGE, CommonKeys.LABEL, CommonKeys.PRED)
