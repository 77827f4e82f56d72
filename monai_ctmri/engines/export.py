"""A bundle's network as a `.pt2` program: `torch.export`, the one format of PyTorch that MONAI's verbs do not write.

MONAI itself exports TorchScript (``ckpt_export``), ONNX (``onnx_export``) and TensorRT (``trt_export``).
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from monai.bundle import ConfigParser

from monai_ctmri.data.files import write_atomically
from monai_ctmri.errors import InputError

__all__ = ["export_program"]

_EXAMPLE_CASES = 2  # with one case PyTorch takes the number of cases for a constant


def export_program(
    config_file: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    weights: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    meta_file: str | os.PathLike[str] | None = None,
    net_id: str = "network_def",
    input_shape: Sequence[int] | None = None,
    **overrides: Any,
) -> Path:
    """Write the network of a bundle, with its weights and configurations, as a program that needs PyTorch alone.

    The program takes any number of cases of one image size; it is the network in ``eval()``. The configurations and
    the metadata lie in it as extra files, as in MONAI's ``ckpt_export``: ``<name of the file>.json`` and
    ``metadata.json``.

    Args:
        config_file: configuration of the bundle, or several, later ones replacing values of earlier ones.
        weights: state dictionary of the network, e.g. ``models/model.pt``.
        out: file to write, ending in ``.pt2``; replaced where it exists.
        meta_file: metadata of the bundle; None takes ``metadata.json`` beside the first configuration.
        net_id: id of the network in the configuration.
        input_shape: (cases, channels, height, width) or (cases, channels, height, width, depth) the program is made
            for, whatever the number of cases; None takes it from ``inputs.image`` of the metadata.
        **overrides: values of the configuration by id, e.g. ``image_size=256``.

    Returns:
        The path of the written file.

    Raises:
        InputError: when a file is missing or of another network, an id is not in the configuration, the shape is not
            known, or ``out`` does not end in ``.pt2``.

    Example:
        >>> export_program("configs/inference.yaml", "models/model.pt", "model.pt2")  # doctest: +SKIP
        >>> torch.export.load("model.pt2").module()(image)  # doctest: +SKIP
    """
    configs = [config_file] if isinstance(config_file, (str, os.PathLike)) else list(config_file)
    out, meta = Path(out), Path(meta_file) if meta_file is not None else Path(configs[0]).with_name("metadata.json")
    if out.suffix != ".pt2":
        raise InputError.about(out, "not the name of an exported program", "let it end in .pt2")
    for path in (*configs, meta, weights):
        if not Path(path).is_file():
            raise InputError.about(path, "file not found", "give the path of a bundle's file")
    parser = ConfigParser()
    parser.read_config([str(path) for path in configs])
    parser.read_meta(str(meta))
    for name, value in overrides.items():
        if name not in parser:  # MONAI would take a misspelt name in silence
            raise InputError.about(name, "no such id in the configuration", f"look it up in {configs[0]}")
        parser[name] = value
    shape = tuple(input_shape) if input_shape is not None else _shape_of(parser["_meta_"], meta)
    network = _network_of(parser, net_id, weights)

    with torch.no_grad():
        example = torch.zeros(_EXAMPLE_CASES, *shape[1:])  # values play no part, and no random number is drawn
        batch = torch.export.Dim("batch")
        program = torch.export.export(network, (example,), dynamic_shapes=({0: batch},))
    extra = {Path(path).stem + ".json": json.dumps(ConfigParser.load_config_file(str(path))) for path in configs}
    extra["metadata.json"] = json.dumps(parser["_meta_"])
    with write_atomically(out) as temporary:
        torch.export.save(program, temporary, extra_files=extra)
    return out


def _shape_of(metadata: dict[str, Any], path: Path) -> tuple[int, ...]:
    """(1, channels, spatial...) that the metadata states."""
    try:
        image = metadata["network_data_format"]["inputs"]["image"]
        shape = (1, image["num_channels"], *image["spatial_shape"])
    except KeyError as error:
        raise InputError.about(path, f"no {error} of inputs.image", "give input_shape") from error
    if not all(isinstance(size, int) for size in shape):
        raise InputError.about(path, f"the image has no fixed shape but {list(shape[1:])}", "give input_shape")
    return shape


def _network_of(parser: ConfigParser, net_id: str, weights: str | os.PathLike[str]) -> torch.nn.Module:
    """The network on the CPU, in ``eval()``, with its weights."""
    if net_id not in parser:
        raise InputError.about(net_id, "no such id in the configuration", "give net_id of the network")
    network: torch.nn.Module = parser.get_parsed_content(net_id)
    try:
        network.load_state_dict(torch.load(weights, map_location="cpu", weights_only=True))
    except Exception as error:  # unreadable files raise nearly anything
        raise InputError.about(
            weights, "not weights of this network", "give the values of the training: image_size, modalities, ..."
        ) from error
    return network.to("cpu").eval()
