"""Taken apart and put together, a network's detector is the same; parts that do not fit are refused cheaply."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from monai_ctmri.detection.network_parts import NETWORK_PARTS, put_together, take_apart
from monai_ctmri.detection.outlier import DETECTORS, OutlierDetector

ROWS = np.random.default_rng(0).normal(size=(40, 4))


@pytest.fixture(scope="module")
def encoder():
    return OutlierDetector("AutoEncoder", parameters={"epoch_num": 1}).fit(ROWS)


@pytest.fixture
def parts(encoder):
    arguments, state, estimators = take_apart("AutoEncoder", encoder.detector_)
    return dict(arguments), {**state, "values": dict(state["values"])}, dict(estimators)


def test_every_detector_with_a_network_is_known():
    assert set(NETWORK_PARTS) == {name for name, recipe in DETECTORS.items() if recipe.torch}


def test_together_the_parts_are_the_detector_and_draw_nothing(encoder, parts):
    before = torch.get_rng_state()
    detector = put_together("AutoEncoder", *parts)
    assert torch.equal(torch.get_rng_state(), before)
    assert type(detector) is type(encoder.detector_)
    assert detector.get_params() == encoder.detector_.get_params()
    score = DETECTORS["AutoEncoder"].score
    np.testing.assert_array_equal(score(detector, ROWS), score(encoder.detector_, ROWS))
    assert not detector.model.training


def test_every_tensor_is_in_memory(parts):
    detector = put_together("AutoEncoder", *parts)
    tensors = [*detector.model.parameters(), *detector.model.buffers()]
    assert tensors
    assert {tensor.device.type for tensor in tensors} == {"cpu"}


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ({"hidden_neuron_list": [10**9, 10**9]}, "size mismatch"),
        ({"hidden_neuron_list": [64, 32, 16]}, "Missing key"),
        ({"hidden_activation_name": "os.system"}, "os.system"),
        ({"decision_function": "mine"}, "decision_function does not belong to AutoEncoder"),
        ({"__class__": "mine"}, "__class__ does not belong to AutoEncoder"),
    ],
)
def test_arguments_that_do_not_fit_are_refused(parts, arguments, problem):
    parts[0].update(arguments)
    with pytest.raises((RuntimeError, ValueError, AssertionError), match=problem):
        put_together("AutoEncoder", *parts)


def test_parts_that_do_not_belong_are_refused(parts):
    arguments, state, estimators = parts
    with pytest.raises(ValueError, match="model does not belong"):
        put_together("AutoEncoder", arguments, {**state, "values": {**state["values"], "model": 1}}, estimators)
    with pytest.raises(ValueError, match="neigh does not belong"):
        put_together("AutoEncoder", arguments, state, {"neigh": 1})
    with pytest.raises(ValueError, match=r"shorter|longer"):
        put_together("AutoEncoder", arguments, {**state, "networks": []}, estimators)
