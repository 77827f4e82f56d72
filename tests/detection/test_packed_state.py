"""States come back as they were, and nothing else comes."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from monai_ctmri.detection.packed_state import pack_state, unpack_state
from monai_ctmri.errors import InputError


def test_a_state_comes_back_bit_by_bit():
    generator = np.random.default_rng(0)
    columns_first = np.asfortranarray(generator.normal(size=(3, 4)))
    state = {
        "tensor": torch.arange(6, dtype=torch.float16).reshape(2, 3),
        "float64": columns_first,
        "backwards": columns_first[:, ::-1],
        "swapped": np.arange(3, dtype=">f8"),
        "flags": np.array([True, False]),
        "none": None,
        "nested": [{"text": "scan", "infinite": math.inf, "nan": math.nan}, (1, True)],
        "number": np.float32(0.1),
        "big": 2**70,
        "empty": {},
    }
    back = unpack_state(pack_state(state, "Scorer"), "file")
    assert back.keys() == state.keys()
    assert back["tensor"].dtype == torch.float16
    assert torch.equal(back["tensor"], state["tensor"])
    for key in ("float64", "backwards", "swapped", "flags"):
        np.testing.assert_array_equal(back[key], state[key])
    # A matrix product's last bits depend on the layout.
    assert back["float64"].flags.f_contiguous
    assert back["float64"].dtype == np.float64
    assert back["flags"].dtype == bool
    assert back["nested"][0]["text"] == "scan"
    assert back["nested"][0]["infinite"] == math.inf
    assert math.isnan(back["nested"][0]["nan"])
    assert back["nested"][1] == [1, True]
    assert type(back["number"]) is float
    assert back["number"] == float(np.float32(0.1))
    assert (back["none"], back["big"], back["empty"]) == (None, 2**70, {})


def test_a_state_does_not_carry_what_its_views_were_cut_from():
    whole = torch.zeros(100_000)
    assert len(pack_state({"a": whole[:2], "b": whole.numpy()[:2]}, "Scorer")) < 5_000


def test_a_state_shares_nothing_with_its_object():
    values = np.zeros(2)
    data = pack_state({"a": values}, "Scorer")
    values[:] = 1
    np.testing.assert_array_equal(unpack_state(data, "file")["a"], [0, 0])


@pytest.mark.parametrize(
    "value", [object(), {1: 2}, np.array(["a"]), np.array([None]), {"numpy array": 1}, [lambda: 1], b"bytes", {1, 2}]
)
def test_a_state_of_other_things_is_refused(value):
    with pytest.raises(InputError, match="Scorer: cannot be saved: its state holds a"):
        pack_state({"outer": value}, "Scorer")


@pytest.mark.parametrize("value", [torch.nn.Parameter(torch.ones(1)), torch.Size([1]), torch.float32, {1: 2}, (1,)])
def test_what_torch_opens_safely_but_is_no_state_is_refused_or_plain(tmp_path, value):
    torch.save({"a": value}, tmp_path / "file")
    data = (tmp_path / "file").read_bytes()
    if isinstance(value, (torch.Tensor, dict)):
        assert unpack_state(data, "file").keys() == {"a"}
        return
    with pytest.raises(InputError, match="file: holds more than tensors"):
        unpack_state(data, "file")
