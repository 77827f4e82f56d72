"""Each bundle's network as TorchScript, ONNX and `torch.export` program is the network, by the commands of the page."""

from __future__ import annotations

import ast
import json
import re
import shlex
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import onnxruntime
import pytest
import torch
import yaml
from bundle_runs import BUNDLES, SIZE, bundle_folders
from monai.bundle import ConfigParser, ckpt_export, onnx_export

from monai_ctmri.engines.export import export_program

PAGE = BUNDLES.parent / "docs" / "export.md"
FORMATS = ("TorchScript", "ONNX", "torch.export")
TOLERANCE = 1e-4
MIRRORED = "the other hemisphere"
"""A network no bundle has as its default: image and mirrored image."""


def words_of(verb: str) -> dict[str, str]:
    """The options of the page's command that calls ``verb``, by name."""
    for language, block in re.findall(r"^```(\w*)\n(.*?)^```", PAGE.read_text(), re.M | re.S):
        words = shlex.split(block.replace("\\\n", " ")) if not language else []
        if verb in words:
            options = words[words.index(verb) + 1 :]
            return {name.removeprefix("--"): value for name, value in zip(options[::2], options[1::2], strict=True)}
    raise AssertionError(f"{PAGE.name} has no command {verb}")


def given(verb: str) -> dict[str, Any]:
    """The page's options but for files and shape, as the command line would understand them."""
    own = {"filepath", "ckpt_file", "meta_file", "config_file", "input_shape", "out", "weights"}
    options = {name: value for name, value in words_of(verb).items() if name not in own}
    return {name: ast.literal_eval(v) if v[0] in "[{TF" else v for name, v in options.items()}


def mirrored_bundle(folder: Path) -> Path:
    (folder / "configs").mkdir(parents=True)
    network = {
        "_target_": "monai_ctmri.networks.CrossModalDenoiser",
        "features": [8, 8, 16, 16, 16, 8],
        "mirror": True,
    }
    (folder / "configs" / "inference.yaml").write_text(yaml.safe_dump({"network_def": network}))
    image = {"num_channels": 4, "spatial_shape": [SIZE, SIZE]}
    metadata = {"network_data_format": {"inputs": {"image": image}}}
    (folder / "configs" / "metadata.json").write_text(json.dumps(metadata))
    return folder


@pytest.fixture(scope="module", params=[*(folder.name for folder in bundle_folders()), MIRRORED])
def exported(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SimpleNamespace]:
    """A bundle's network with random weights, and its folder with the three files that the page's commands write."""
    out = tmp_path_factory.mktemp("exported")
    bundle = mirrored_bundle(out / "bundle") if request.param == MIRRORED else BUNDLES / request.param
    config, meta, weights = bundle / "configs" / "inference.yaml", bundle / "configs" / "metadata.json", out / "w.pt"
    parser = ConfigParser()
    parser.read_config(str(config))
    small = {"image_size": SIZE} if "image_size" in parser else {}
    parser.update(small)
    torch.manual_seed(0)
    network = parser.get_parsed_content("network_def").eval()
    torch.save(network.state_dict(), weights)
    channels = json.loads(meta.read_text())["network_data_format"]["inputs"]["image"]["num_channels"]
    shape = [2, channels, SIZE, SIZE]
    files = {"ckpt_file": str(weights), "meta_file": str(meta), "config_file": str(config), **small}
    with pytest.MonkeyPatch.context() as patch:
        (out / "temporary").mkdir()
        patch.setattr(tempfile, "tempdir", str(out / "temporary"))
        ckpt_export(filepath=str(out / "model.ts"), **files, **given("ckpt_export"))
        onnx_export(filepath=str(out / "model.onnx"), input_shape=shape, **files, **given("onnx_export"))
        export_program(config, weights, out / "model.pt2", input_shape=shape, **small, **given("export_program"))
    yield SimpleNamespace(out=out, network=network, shape=shape, config=config)
    for name in ("model.ts", "model.onnx", "model.pt2"):
        (out / name).unlink()  # several MB a bundle


def load(form: str, folder: Path) -> Callable[[torch.Tensor], torch.Tensor]:
    if form == "TorchScript":
        return torch.jit.load(folder / "model.ts")
    if form == "torch.export":
        return torch.export.load(folder / "model.pt2").module()
    session = onnxruntime.InferenceSession(folder / "model.onnx")
    return lambda image: torch.from_numpy(session.run(["pred"], {"image": image.numpy()})[0])


def images(cases: int, shape: list[int]) -> torch.Tensor:
    return torch.rand(cases, *shape[1:], generator=torch.Generator().manual_seed(cases))


@torch.no_grad()
@pytest.mark.parametrize("form", FORMATS)
def test_the_file_is_the_network(form: str, exported: SimpleNamespace) -> None:
    program = load(form, exported.out)
    for cases in (1, 3):
        image = images(cases, exported.shape)
        found, expected = program(image), exported.network(image)
        assert found.shape == expected.shape
        assert float((found - expected).abs().max()) < TOLERANCE
        assert float((found - exported.network(images(cases, exported.shape).flip(1))).abs().max()) > 10 * TOLERANCE


@torch.no_grad()
@pytest.mark.parametrize("form", FORMATS)
def test_a_modality_may_be_absent(form: str, exported: SimpleNamespace) -> None:
    """Each case of one batch lacks another channel, or none, as the exporter's example did not."""
    channels = exported.shape[1]
    image = images(channels + 1, exported.shape)
    for channel in range(channels):
        image[channel, channel] = 0
    program = load(form, exported.out)
    expected = exported.network(image)
    assert float((program(image) - expected).abs().max()) < TOLERANCE
    for case in range(channels + 1):
        alone = program(image[case : case + 1])
        assert float((alone - expected[case : case + 1]).abs().max()) < TOLERANCE


@torch.no_grad()
def test_absence_counts_for_the_denoiser(exported: SimpleNamespace) -> None:
    """Were presence frozen to what the exporter saw, the test above would fail by far."""
    if type(exported.network).__name__ != "CrossModalDenoiser":
        return
    image = images(1, exported.shape)
    image[:, 0] = 0
    nearly = image.clone()
    nearly[:, 0] = 1e-6  # present
    assert float((exported.network(image) - exported.network(nearly)).abs().max()) > 100 * TOLERANCE


def test_configurations_lie_in_the_files(exported: SimpleNamespace) -> None:
    expected = ConfigParser.load_config_file(str(exported.config))
    metadata = json.loads(exported.config.with_name("metadata.json").read_text())
    script, program = ({"inference.json": "", "metadata.json": ""} for _ in range(2))
    torch.jit.load(exported.out / "model.ts", _extra_files=script)
    torch.export.load(exported.out / "model.pt2", extra_files=program)
    for extra in (script, program):
        assert json.loads(extra["inference.json"]) == expected
        assert metadata.items() <= json.loads(extra["metadata.json"]).items()


def test_onnx_keeps_the_number_of_cases_free_and_its_weights_inside(exported: SimpleNamespace) -> None:
    session = onnxruntime.InferenceSession(exported.out / "model.onnx")
    (image,), (pred,) = session.get_inputs(), session.get_outputs()
    assert (image.name, image.shape) == ("image", ["batch", *exported.shape[1:]])
    assert (pred.name, pred.shape[0]) == ("pred", "batch")
    assert not list((exported.out / "temporary").glob("*.data"))  # where MONAI writes what it then reads
    assert {path.suffix for path in exported.out.iterdir() if path.is_file()} == {".pt", ".ts", ".onnx", ".pt2"}


def test_other_methods_come_along_in_torchscript(exported: SimpleNamespace) -> None:
    image = images(2, exported.shape)
    script = torch.jit.load(exported.out / "model.ts")
    for method in ("encode", "reconstruct"):
        if hasattr(exported.network, method):
            expected = getattr(exported.network, method)(image)
            torch.testing.assert_close(getattr(script, method)(image), expected, atol=TOLERANCE, rtol=0)


def test_the_commands_of_the_page_are_whole() -> None:
    for verb, out in (("ckpt_export", "filepath"), ("onnx_export", "filepath"), ("export_program", "out")):
        options = words_of(verb)
        inputs = [value for name, value in options.items() if name in ("ckpt_file", "weights", "config_file")]
        assert all(value.startswith("bundles/") for value in inputs)
        assert len(inputs) == 2
        assert options[out].startswith("model.")
    cases, channels, height, width = ast.literal_eval(words_of("onnx_export")["input_shape"])
    metadata = json.loads((BUNDLES / "brain_ctmri_autoencoder" / "configs" / "metadata.json").read_text())
    image = metadata["network_data_format"]["inputs"]["image"]
    assert [channels, height, width] == [image["num_channels"], *image["spatial_shape"]]
    assert cases > 1
