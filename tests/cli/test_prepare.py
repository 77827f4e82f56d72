"""``monai-ctmri prepare``: what it shows, what it hands on; the work itself is tested in tests/data."""

from __future__ import annotations

import logging
import shutil
import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from monai_ctmri import cli
from monai_ctmri.data.manifest import Manifest


@pytest.fixture
def call(monkeypatch, capsys):
    """Run the command in this process; return exit code, standard output and standard error."""
    level = logging.root.manager.disable

    def run(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr("sys.argv", ["monai-ctmri", "prepare", *map(str, arguments)])
        with warnings.catch_warnings(), pytest.raises(SystemExit) as stop:
            cli.main()
        out, err = capsys.readouterr()
        return int(stop.value.code or 0), out, err

    yield run
    logging.disable(level)


@pytest.fixture
def folder(phantom_manifest: Path, tmp_path: Path) -> Path:
    root = tmp_path / "data"
    for name in ("ct", "mri"):
        shutil.copytree(phantom_manifest.parent / name, root / name)
    return root


def test_the_answer_and_the_manifest(call, folder, tmp_path):
    code, out, _ = call(folder, "--out", tmp_path / "m.csv")
    assert code == 0
    assert "paired" in out
    assert "27 / 27" in out
    assert out.splitlines()[-1] == f"Manifest: {tmp_path / 'm.csv'}"
    assert len(Manifest.read(tmp_path / "m.csv")) == 27


def test_explain_lists_the_evidence(call, folder, tmp_path):
    _, plain, _ = call(folder, "--out", tmp_path / "a.csv")
    _, explained, _ = call(folder, "--out", tmp_path / "b.csv", "--explain")
    assert "Evidence:" in explained
    assert "mutual information" in explained
    assert "Evidence:" not in plain


def test_an_unpaired_set_says_how_to_state_pairs(call, folder, tmp_path):
    for number, path in enumerate(sorted((folder / "mri").iterdir())):
        path.rename(folder / "mri" / f"scan{number * 7 % 27:02d}.png")
    for options in ([], ["--explain"]):
        code, out, _ = call(folder, "--out", tmp_path / "m.csv", *options)
        assert code == 0
        assert "unpaired" in out
        assert out.count("ct,mri,subject,label") == 1


def test_a_ct_among_the_mri_is_named_with_its_path(call, folder, tmp_path):
    wrong = folder / "mri" / "zz_head.png"
    Image.fromarray(skull()).save(wrong)
    _, out, _ = call(folder, "--out", tmp_path / "m.csv")
    assert f"Wrong modality: {wrong} (ct-likeness" in out
    assert "quarantined: wrong_modality" in (tmp_path / "m.csv").read_text()


def skull(size: int = 256) -> np.ndarray:
    """A CT of a head as a picture: white ring, grey inside, black air."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:size, :size]
    r = np.hypot((y - size / 2) / (0.42 * size), (x - size / 2) / (0.34 * size))
    values = np.select([r < 0.86, r < 0.97, r < 1], [110.0, 255.0, 60.0], 0.0)
    values += np.where(r < 0.86, rng.normal(0, 6, r.shape), 0)
    return np.uint8(np.clip(values, 0, 255))


def test_findings_are_counted_by_kind(call, folder, tmp_path):
    sorted((folder / "ct").iterdir())[0].write_bytes(b"")
    _, out, _ = call(folder, "--out", tmp_path / "m.csv", "--quarantine", "none")
    assert "truncated" in out or "unreadable" in out
    assert "0 of them quarantined" in out


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--register", "elastic"], "--register elastic: unknown; use none, rigid or affine"),
        (["--quarantine", "bad"], "quarantine 'bad': neither a severity nor a kind of finding"),
        (["--a-is", "pet"], "'pet'"),
    ],
)
def test_bad_options_end_in_one_line(call, folder, tmp_path, options, message):
    code, _, err = call(folder, "--out", tmp_path / "out" / "m.csv", *options)
    assert code == 2
    (line,) = [line for line in err.splitlines() if line.startswith("Error:")]
    assert message in line
    assert not (tmp_path / "out").exists()


def test_a_folder_without_images_ends_in_one_line(call, tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "notes.txt").write_text("nothing")
    code, _, err = call(tmp_path / "empty", "--out", tmp_path / "m.csv")
    assert code == 2
    assert err.splitlines()[-1].startswith(f"Error: {tmp_path / 'empty'}: no image below this folder")


def test_every_option_arrives(call, folder, tmp_path, monkeypatch):
    import monai_ctmri.data.preparation as room

    given: dict = {}
    real = room.prepare

    def instead(root, out, **options):
        given.update(root=root, out=out, **options)
        return real(root, out)

    monkeypatch.setattr(room, "prepare", instead)
    call(
        folder, "--out", tmp_path / "m.csv", "--a-is", "mri", "--rediscover", "--register", "affine", "--seed", 3,
        "--allow-resample", "--levels", 10, 60, "--every-mm", 5, "--quarantine", "error,cut_off", "--workers", 2,
    )  # fmt: skip
    assert (given["root"], given["out"], given["a_is"]) == (folder, tmp_path / "m.csv", "mri")
    assert (given["use_manifest"], given["allow_resample"], given["workers"]) == (False, True, 2)
    assert (given["levels_mm"], given["every_mm"], given["rule"]) == ((10.0, 60.0), 5.0, ["error", "cut_off"])
    assert (given["align"].kind, given["align"].seed) == ("affine", 3)


def test_its_output_is_what_benchmark_takes(call, folder, tmp_path):
    from monai_ctmri.evaluation.protocol import make_protocol
    from monai_ctmri.report.run import choose_modalities

    call(folder, "--out", tmp_path / "m.csv")
    assert choose_modalities(tmp_path / "m.csv") == [("ct", "mri")]
    assert len(make_protocol(Manifest.read(tmp_path / "m.csv")).test)
