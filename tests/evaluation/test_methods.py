"""The list of methods and the scorers behind it."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from monai_ctmri.evaluation.latent_detectors import OFFERED
from monai_ctmri.evaluation.methods import DECISION_METHOD, MAP_KIND, build_scorers, detector_methods, list_methods
from monai_ctmri.networks import ConvolutionalAutoencoder

GROUPS = {"network", "one-class", "fused", "source notes", "trivial baseline"}


@pytest.mark.parametrize("modalities", [("ct", "mri"), ("ct",), ("mri",)])
def test_names_are_unique_and_every_group_has_a_method(modalities):
    methods = list_methods(modalities)
    assert len({one.name for one in methods}) == len(methods)
    assert {one.group for one in methods} == GROUPS
    whole = "both" if len(modalities) == 2 else modalities[0]
    assert methods[0].name == DECISION_METHOD  # the first one tells the modality of the whole
    assert methods[0].modality == whole
    assert {one.modality for one in methods} == ({"both", "ct", "mri"} if len(modalities) == 2 else {whole})
    assert DECISION_METHOD.startswith(MAP_KIND)


def test_what_every_table_has_to_carry_is_there():
    """The trivial baselines and the two baselines of the source notes, see the design."""
    by_group = {
        group: {one.name for one in list_methods(("ct", "mri")) if one.modality == "both" and one.group == group}
        for group in GROUPS
    }
    assert by_group["trivial baseline"] == {"mean", "spread", "percentile", "bright", "atlas", "random"}
    assert by_group["source notes"] == {"l2_mean", "iforest"}
    assert by_group["one-class"] == {"ocsvm", "mahalanobis"}
    assert by_group["fused"] == {"fused"}


def test_each_error_and_baseline_is_there_for_each_modality_alone():
    both = {one.name for one in list_methods(("ct", "mri"))}
    whole = {one.name for one in list_methods(("ct", "mri")) if one.modality == "both"}
    assert both == whole | {
        f"{name}_{one}" for name in whole - {"iforest", "ocsvm", "mahalanobis", "fused"} for one in ("ct", "mri")
    }
    assert {one.name for one in list_methods(("mri",))} == whole


def test_a_method_as_a_dictionary():
    assert list_methods(("ct",))[0].as_dict() == {
        "name": "l1_mean",
        "label": "Reconstruction error, L1, mean",
        "group": "network",
        "modality": "ct",
    }


@pytest.mark.parametrize("modalities", [("ct", "mri"), ("mri",)])
def test_the_scorers_give_every_method_of_the_list(modalities):
    torch.manual_seed(0)
    network = ConvolutionalAutoencoder(in_channels=len(modalities), spatial_size=[32, 32]).eval()
    cases = [
        {"case": f"c{i}", "subject": f"s{i}", "image": torch.rand(len(modalities), 32, 32) * 0.8 + 0.1}
        for i in range(6)
    ]
    state = np.random.get_state()[1].copy()  # noqa: NPY002
    reconstruction, others = build_scorers(network, modalities)
    scores = dict(reconstruction.score(cases[0]).scores)
    for scorer in others:
        scores |= scorer.fit(cases[1:]).score(cases[0]).scores
    names = {one.name for one in list_methods(modalities)} - {"iforest", "ocsvm", "mahalanobis", "fused"}
    assert names <= set(scores)
    assert all(np.isfinite(scores[name]) for name in names)
    np.testing.assert_array_equal(state, np.random.get_state()[1])  # noqa: NPY002
    # 4 x 4 cells of each latent channel
    channels = network.encode(cases[0]["image"][None]).shape[1]
    assert len(reconstruction.score(cases[0]).features) == 16 * channels


def test_every_detector_is_a_method_with_a_name_and_a_label_of_its_own():
    methods = detector_methods(("ct", "mri"), OFFERED)
    assert len({one.name for one in methods}) == len({one.label for one in methods}) == len(OFFERED)
    assert {one.modality for one in methods} == {"both"}
    others = {one.name for one in list_methods(("ct", "mri")) if one.group not in ("one-class", "source notes")}
    assert not {one.name for one in methods} & others
    assert [one.group for one in detector_methods(("ct",), ["IForest", "LOF"])] == ["source notes", "one-class"]
    assert detector_methods(("ct",), ["LOF"])[0].modality == "ct"
