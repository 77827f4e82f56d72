"""What ``export_program`` writes and what it refuses; that it is the network is tested bundle by bundle."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
import yaml

from monai_ctmri.engines.export import export_program
from monai_ctmri.errors import InputError
from monai_ctmri.networks import ConvolutionalAutoencoder

CONFIG = {
    "imports": ["$import math"],
    "width": 4,
    "network_def": {
        "_target_": "monai_ctmri.networks.ConvolutionalAutoencoder",
        "in_channels": 1,
        "channels": "$[@width] * 3",
    },
}
METADATA = {"network_data_format": {"inputs": {"image": {"num_channels": 1, "spatial_shape": [16, 24]}}}}


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path, Path]:
    """Configuration, weights, and where the program goes; metadata lie beside the configuration."""
    config, weights = tmp_path / "inference.yaml", tmp_path / "model.pt"
    config.write_text(yaml.safe_dump(CONFIG))
    (tmp_path / "metadata.json").write_text(json.dumps(METADATA))
    torch.save(ConvolutionalAutoencoder(1, (4, 4, 4)).state_dict(), weights)
    return config, weights, tmp_path / "out" / "model.pt2"


def reference(weights: Path) -> torch.nn.Module:
    network = ConvolutionalAutoencoder(1, (4, 4, 4))
    network.load_state_dict(torch.load(weights, weights_only=True))
    return network.eval()


def test_the_program_is_the_network_for_any_number_of_cases(files):
    config, weights, out = files
    assert export_program(config, weights, out) == out
    program = torch.export.load(out).module()
    for cases in (1, 2, 5):
        image = torch.rand(cases, 1, 16, 24)  # the shape of the metadata
        torch.testing.assert_close(program(image), reference(weights)(image))
    assert [path.name for path in out.parent.iterdir()] == ["model.pt2"]  # nothing temporary stays


def test_configurations_and_metadata_lie_in_the_program(files, tmp_path):
    config, weights, out = files
    (tmp_path / "site.yaml").write_text("width: 4\n")
    export_program([str(config), str(tmp_path / "site.yaml")], weights, out)
    extra = {"inference.json": "", "site.json": "", "metadata.json": ""}
    torch.export.load(out, extra_files=extra)
    assert {name: json.loads(text) for name, text in extra.items()} == {
        "inference.json": CONFIG,
        "site.json": {"width": 4},
        "metadata.json": METADATA,
    }


def test_a_shape_that_is_given_comes_before_the_metadata(files):
    config, weights, out = files
    export_program(config, weights, out, input_shape=[1, 1, 8, 8])
    image = torch.rand(3, 1, 8, 8)
    torch.testing.assert_close(torch.export.load(out).module()(image), reference(weights)(image))


def test_overrides_reach_the_network(files):
    config, weights, out = files
    torch.save(ConvolutionalAutoencoder(1, (8, 8, 8)).state_dict(), weights)
    export_program(config, weights, out, width=8)
    assert torch.export.load(out).state_dict["encoder.0.weight"].shape == (8, 1, 3, 3)


def test_an_older_program_is_replaced(files):
    config, weights, out = files
    out.parent.mkdir()
    out.write_text("an older one")
    export_program(config, weights, out)
    assert torch.export.load(out).module() is not None


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"out": "model.pt"}, "model.pt: .*end in .pt2"),
        ({"weights": "absent.pt"}, "absent.pt: file not found"),
        ({"config_file": "absent.yaml"}, "absent.yaml: file not found"),
        ({"meta_file": "absent.json"}, "absent.json: file not found"),
        ({"widht": 8}, "widht: no such id"),
        ({"net_id": "generator"}, "generator: no such id"),
        ({"width": 8}, "not weights of this network"),
    ],
)
def test_what_cannot_be_exported_is_named_in_one_line(change, said, files):
    config, weights, out = files
    with pytest.raises(InputError, match=said) as caught:
        export_program(**{"config_file": config, "weights": weights, "out": out, **change})
    assert "\n" not in str(caught.value)
    assert not out.exists()


@pytest.mark.parametrize(
    ("image", "said"),
    [
        ({"num_channels": 1, "spatial_shape": ["4*n", "*"]}, "no fixed shape"),
        ({"num_channels": 1}, "spatial_shape"),
    ],
)
def test_metadata_without_a_shape_ask_for_one(image, said, files, tmp_path):
    config, weights, out = files
    metadata = {"network_data_format": {"inputs": {"image": image}}}
    (tmp_path / "metadata.json").write_text(json.dumps(metadata))
    with pytest.raises(InputError, match=f"{said}.*give input_shape"):
        export_program(config, weights, out)
    export_program(config, weights, out, input_shape=(1, 1, 8, 8))


def test_files_that_are_no_weights(files):
    config, weights, out = files
    weights.write_bytes(b"PK\x03\x04 cut off")
    with pytest.raises(InputError, match=r"model\.pt: not weights"):
        export_program(config, weights, out)
