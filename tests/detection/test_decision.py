"""A calibration kept beside the weights: what it decides, what it refuses, how it is saved."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import numpy as np
import pytest

from monai_ctmri.detection.decision import FILE, demand_alpha, fit_decision, load_decision
from monai_ctmri.errors import InputError

FILES = {"model.pt": "a" * 64, "scorers.pt": "b" * 64}


def normals(count: int = 30, seed: int = 0) -> list[dict[str, float]]:
    generator = np.random.default_rng(seed)
    return [{"error": float(one), "mismatch": float(two)} for one, two in generator.normal(size=(count, 2))]


def test_one_score_alone_gives_the_textbook_p_value():
    rows = [{"error": float(value)} for value in range(24)]
    decision = fit_decision(rows, range(24), FILES)
    # 4 of the normals 0..23 are 20 or more, and the case itself: (4 + 1) / (24 + 1).
    assert decision.decide({"error": 20.0}).p_value == pytest.approx(5 / 25)
    assert decision.decide({"error": 99.0}).p_value == pytest.approx(1 / 25)
    assert decision.cases == 24


def test_the_lowest_of_two_p_values_decides():
    decision = fit_decision(normals(), range(30), FILES)
    assert decision.fusion.method == "minimum"
    usual = decision.decide({"error": 0.0, "mismatch": 0.0})
    one_high = decision.decide({"error": 0.0, "mismatch": 9.0})
    assert one_high.p_value < 0.1 < usual.p_value
    assert one_high.score > usual.score


def test_slices_of_a_subject_count_once():
    assert fit_decision(normals(40), [number // 2 for number in range(40)], FILES).cases == 20


def test_false_alarms_stay_at_alpha():
    decision = fit_decision(normals(99), range(99), FILES)
    flagged = np.mean([decision.decide(row).p_value <= 0.1 for row in normals(300, seed=1)])
    assert flagged < 0.17  # .1 in the mean over calibration sets; one set of 99 and 300 cases vary by .035


def test_too_few_normals_are_said():
    decision = fit_decision(normals(30), range(30), FILES)
    assert decision.shortage(0.05) is None
    assert decision.shortage(0.01) == "30 normals give p-values from 0.0323: none can be flagged at alpha 0.01"


def test_it_belongs_to_all_files_of_the_model():
    decision = fit_decision(normals(), range(30), FILES)
    assert decision.fits(dict(reversed(FILES.items())))
    assert not decision.fits({"model.pt": FILES["model.pt"]})
    assert not decision.fits(FILES | {"scorers.pt": "c" * 64})
    with pytest.raises(InputError, match="files: none is named"):
        fit_decision(normals(), range(30), {})


def test_saved_and_loaded_it_decides_the_same_bit_by_bit(tmp_path):
    rows = [row if place % 3 else {"error": row["error"]} for place, row in enumerate(normals(60))]
    decision = fit_decision(rows, range(60), FILES, minimum_rows=10, random_state=4)
    path = decision.save(tmp_path)
    assert path == tmp_path / "models" / FILE
    loaded = load_decision(tmp_path)
    assert loaded is not None
    assert loaded.files == FILES
    for row in ({"error": 1.0, "mismatch": 0.3}, {"error": 1.0}, {"error": 7.0, "mismatch": 8.0}):
        assert loaded.decide(row) == decision.decide(row)
    assert [file.name for file in path.parent.iterdir()] == [FILE]


def test_the_file_holds_plain_arrays_and_no_subject(tmp_path):
    path = fit_decision(normals(), [f"secret-{number}" for number in range(30)], FILES).save(tmp_path)
    with np.load(path, allow_pickle=False) as content:
        assert all(content[name].dtype.kind in "iufU" for name in content.files)
    assert b"secret" not in b"".join(zipfile.ZipFile(path).read(name) for name in zipfile.ZipFile(path).namelist())


def test_none_is_none(tmp_path):
    assert load_decision(tmp_path) is None


class Planted:
    """Unpickled, it makes a file."""

    def __init__(self, witness: Path) -> None:
        self.witness = witness

    def __reduce__(self):
        return (Path.touch, (self.witness,))


def rewritten(path: Path, **changes: object) -> None:
    with np.load(path) as content:
        arrays = {name: content[name] for name in content.files}
    arrays |= {name: np.asarray(value) for name, value in changes.items()}
    np.savez(path, **{name: value for name, value in arrays.items() if value.shape != (0, 0)})


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"schema": 99}, "schema version 99 is newer"),
        ({"rows": np.zeros((4, 7))}, "do not fit"),
        ({"rows": np.zeros((0, 0))}, "do not fit"),
        ({"method": "guess"}, "do not fit"),
        ({"file_sha256": ["x"]}, "do not fit"),
        ({"file_names": np.array([], str), "file_sha256": np.array([], str)}, "do not fit"),
    ],
)
def test_a_changed_file_is_refused_in_one_line(tmp_path, changes, words):
    path = fit_decision(normals(), range(30), FILES).save(tmp_path)
    rewritten(path, **changes)
    with pytest.raises(InputError, match=words) as caught:
        load_decision(tmp_path)
    assert "\n" not in str(caught.value)


def test_what_is_no_such_file_is_refused_and_no_code_of_it_runs(tmp_path):
    path = fit_decision(normals(), range(30), FILES).save(tmp_path)
    whole, witness = path.read_bytes(), tmp_path / "witness"
    planted = io.BytesIO()
    np.savez(planted, schema=np.array([Planted(witness)], dtype=object))
    single = io.BytesIO()
    np.save(single, np.zeros(3))
    for content in (whole[: len(whole) // 2], b"", b"no archive", planted.getvalue(), single.getvalue()):
        path.write_bytes(content)
        with pytest.raises(InputError, match="is no saved decision"):
            load_decision(tmp_path)
    assert not witness.exists()


@pytest.mark.parametrize("alpha", [0.0, 1.0, -0.1, float("nan")])
def test_alpha_is_a_rate(alpha):
    assert demand_alpha(0.05) == 0.05
    with pytest.raises(InputError, match="outside"):
        demand_alpha(alpha)
