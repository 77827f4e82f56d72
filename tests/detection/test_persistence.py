"""Saved detectors score the same elsewhere, and nothing in a folder made to harm is run."""

from __future__ import annotations

import hashlib
import json
import logging
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.exceptions import NotFittedError
from sklearn.preprocessing import StandardScaler

from monai_ctmri.detection.calibration import ConformalCalibrator
from monai_ctmri.detection.features import FeatureSteps
from monai_ctmri.detection.mahalanobis import MahalanobisDetector
from monai_ctmri.detection.outlier import DETECTORS, OutlierDetector
from monai_ctmri.detection.persistence import (
    load_detector,
    load_state,
    pack_detector,
    save_detector,
    save_state,
    unpack_detector,
)
from monai_ctmri.detection.row_detector import RowDetector
from monai_ctmri.errors import InputError

COLUMNS = 5
NAMES = [f"latent_{i}" for i in range(COLUMNS)]
SHORT = {
    "AutoEncoder": {"epoch_num": 1},
    "DIF": {"n_ensemble": 2},
    "DeepSVDD": {"epochs": 1},
    "IForest": {"n_estimators": 5},
    "INNE": {"n_estimators": 5},
    "LUNAR": {"n_epochs": 2},
    "VAE": {"epoch_num": 1},
}
# What the recipes do not use by themselves, but a user may ask for.
VARIANTS = {
    "AutoEncoder_standardised": ("AutoEncoder", {"epoch_num": 1, "preprocessing": True, "batch_norm": False}),
    "DeepSVDD_decoded": ("DeepSVDD", {"epochs": 1, "preprocessing": True, "use_ae": True, "hidden_neurons": [5, 3]}),
    "KNN_ball_tree": ("KNN", {"algorithm": "ball_tree", "metric": "manhattan"}),
    "LUNAR_scores": ("LUNAR", {"n_epochs": 2, "model_type": "SCORE", "scaler": False}),
}
CASES = [*DETECTORS, *VARIANTS, "OCSVM_many_rows", "Mahalanobis"]

# One process for all detectors: starting one costs more than loading them.
ELSEWHERE = """
import os, random, sys
import numpy as np, torch
from pathlib import Path
from monai_ctmri.detection.persistence import load_detector

def state():
    numpy_state = np.random.get_state()
    return random.getstate(), numpy_state[1].tobytes(), numpy_state[2:], torch.get_rng_state().numpy().tobytes(), \\
        os.environ.get("PYTHONHASHSEED")

folder, questions = Path(sys.argv[1]), np.load(sys.argv[2])
before, scores = state(), {}
for file in sorted(folder.glob("*.json")):
    detector = load_detector(folder, file.stem)
    assert state() == before, file.stem
    scores[file.stem] = detector.decision_function(questions)
np.savez(sys.argv[3], **scores)
"""


def rows(count: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(count, COLUMNS)) * np.linspace(0.5, 3.0, COLUMNS)


def fit(case: str) -> RowDetector:
    if case == "Mahalanobis":
        return MahalanobisDetector(explained_variance=0.9).fit(rows(40, 0), NAMES)
    if case == "OCSVM_many_rows":
        return OutlierDetector("OCSVM", parameters={"n_components": 20}).fit(rows(8001, 0))
    name, parameters = VARIANTS.get(case, (case, SHORT.get(case)))
    return OutlierDetector(name, parameters=parameters, whiten=case == "GMM").fit(rows(40, 0), NAMES)


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """Folder of all detectors, and the scores of the fitted ones before they were saved."""
    folder, questions, scores = tmp_path_factory.mktemp("saved"), rows(7, 1), {}
    for case in CASES:
        detector = fit(case)
        scores[case] = detector.decision_function(questions)
        save_detector(detector, folder, case)
    return folder, scores


@pytest.fixture(scope="module")
def elsewhere(saved, tmp_path_factory):
    """Scores of the saved detectors in a new process."""
    folder = tmp_path_factory.mktemp("elsewhere")
    np.save(folder / "questions.npy", rows(7, 1))
    command = [sys.executable, "-c", ELSEWHERE, saved[0], folder / "questions.npy", folder / "scores.npz"]
    subprocess.run([str(part) for part in command], check=True, timeout=300)
    with np.load(folder / "scores.npz") as scores:
        return dict(scores)


@pytest.mark.parametrize("case", CASES)
def test_scores_are_the_same_bit_by_bit_in_a_new_process(saved, elsewhere, case):
    np.testing.assert_array_equal(elsewhere[case], saved[1][case])
    assert np.ptp(elsewhere[case]) > 0


def test_a_loaded_detector_has_what_the_fitted_one_had(saved):
    loaded = load_detector(saved[0], "GMM")
    assert isinstance(loaded, OutlierDetector)
    assert loaded.get_params() == fit("GMM").get_params()
    assert list(loaded.feature_names_in_) == NAMES
    assert loaded.n_features_in_ == COLUMNS
    with pytest.raises(InputError, match="'latent_3' holds nan"):
        loaded.decision_function([[0, 0, 0, np.nan, 0]])
    assert not hasattr(load_detector(saved[0], "OCSVM_many_rows"), "feature_names_in_")


def test_a_loaded_network_keeps_what_pyod_said_of_the_fitted_rows(saved):
    fitted = fit("DIF").detector_
    loaded = load_detector(saved[0], "DIF").detector_
    np.testing.assert_array_equal(loaded.decision_scores_, fitted.decision_scores_)
    assert loaded.threshold_ == fitted.threshold_


def test_a_saved_detector_can_be_saved_again(saved, tmp_path):
    save_detector(load_detector(saved[0], "VAE"), tmp_path)
    scores = load_detector(tmp_path).decision_function(rows(7, 1))
    np.testing.assert_array_equal(scores, saved[1]["VAE"])


def test_the_json_says_what_lies_beside_it(saved):
    content = json.loads((saved[0] / "IForest.json").read_text())
    assert content["class"] == "OutlierDetector"
    assert content["parameters"]["name"] == "IForest"
    assert content["feature_names"] == NAMES
    assert {"monai_ctmri", "numpy", "pyod", "scikit-learn", "torch"} <= set(content["versions"])
    assert content["versions"]["torch"].startswith(torch.__version__.split("+")[0])
    assert set(content["files"]) == {"IForest.pt", "IForest.skops"}
    for name, digest in content["files"].items():
        assert hashlib.sha256((saved[0] / name).read_bytes()).hexdigest() == digest


# --- files made to harm -------------------------------------------------------------------------------------------


class Planted:
    """Its unpickling creates a file."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self):
        return Path.touch, (self.marker,)


@pytest.fixture
def forest(tmp_path):
    """A folder with a small saved forest of its own, to be spoilt."""
    save_detector(fit("IForest"), tmp_path / "model")
    return tmp_path / "model"


def replace(folder: Path, suffix: str, data: bytes, sign: bool) -> None:
    """Put ``data`` in the place of a file; ``sign``: the JSON is given its hash, as who plants it would."""
    (folder / f"detector{suffix}").write_bytes(data)
    if sign:
        change(folder, files={f"detector{suffix}": hashlib.sha256(data).hexdigest()})


def change(folder: Path, **entries: object) -> None:
    path = folder / "detector.json"
    content = json.loads(path.read_text())
    for key, value in entries.items():
        content[key] = {**content[key], **value} if isinstance(value, dict) else value
    path.write_text(json.dumps(content))


def refusal(folder: Path) -> str:
    with pytest.raises(InputError) as caught:
        load_detector(folder)
    message = str(caught.value)
    assert "\n" not in message
    assert len(message) < 500
    return message


@pytest.mark.parametrize("sign", [False, True])
@pytest.mark.parametrize("suffix", [".pt", ".skops"])
@pytest.mark.parametrize("writer", ["pickle", "torch"])
def test_a_planted_pickle_does_not_run(forest, tmp_path, suffix, sign, writer):
    marker = tmp_path / "ran"
    if writer == "torch":
        torch.save({"steps": Planted(marker)}, tmp_path / "planted")
        data = (tmp_path / "planted").read_bytes()
    else:
        data = pickle.dumps(Planted(marker), protocol=2)  # the one that weights_only reads
    replace(forest, suffix, data, sign)
    message = refusal(forest)
    assert not marker.exists()
    assert f"detector{suffix}: " in message
    assert ("SHA-256" in message) != sign
    # The trap is one: opened without care, it springs.
    if writer == "torch":
        torch.load(tmp_path / "planted", weights_only=False)
    else:
        pickle.loads(data)
    assert marker.exists()


@pytest.fixture
def planted_type(tmp_path, monkeypatch):
    """A skops file with a type that creates a file when it is built, and one when its module is loaded."""
    from skops.io import dumps

    (tmp_path / "planted_module.py").write_text(
        "from pathlib import Path\n"
        "Path(__file__).with_name('loaded').touch()\n"
        "class Planted:\n"
        "    def __setstate__(self, state):\n"
        "        Path(__file__).with_name('built').touch()\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    import planted_module

    made = planted_module.Planted()
    made.number = 1
    data = dumps({"detector": made})
    forget(tmp_path)
    yield data
    forget(tmp_path)


def forget(folder: Path) -> None:
    sys.modules.pop("planted_module", None)
    for name in ("loaded", "built"):
        (folder / name).unlink(missing_ok=True)


@pytest.mark.parametrize("sign", [False, True])
def test_a_planted_type_is_neither_loaded_nor_built(forest, tmp_path, planted_type, sign):
    replace(forest, ".skops", planted_type, sign)
    message = refusal(forest)
    assert ("SHA-256" if not sign else "'planted_module.Planted'") in message
    assert not (tmp_path / "loaded").exists()
    assert not (tmp_path / "built").exists()
    from skops.io import loads

    loads(planted_type, trusted=["planted_module.Planted"])
    assert (tmp_path / "loaded").exists()
    assert (tmp_path / "built").exists()


def test_nothing_is_opened_before_the_hashes_are_compared(forest, monkeypatch):
    opened = []
    monkeypatch.setattr("torch.load", lambda *_, **__: opened.append("torch"))
    monkeypatch.setattr("skops.io.loads", lambda *_, **__: opened.append("skops"))
    monkeypatch.setattr("skops.io.get_untrusted_types", lambda *_, **__: opened.append("skops"))
    for suffix in (".pt", ".skops"):
        whole = (forest / f"detector{suffix}").read_bytes()
        replace(forest, suffix, whole[:-1] + bytes([whole[-1] ^ 1]), sign=False)
        assert "SHA-256" in refusal(forest)
        replace(forest, suffix, whole, sign=False)
    assert opened == []
    refusal(forest)
    assert opened[0] == "torch"


@pytest.mark.parametrize("sign", [False, True])
@pytest.mark.parametrize("suffix", [".pt", ".skops"])
def test_a_file_cut_off_is_refused(forest, suffix, sign):
    data = (forest / f"detector{suffix}").read_bytes()
    replace(forest, suffix, data[: len(data) // 2], sign)
    assert f"detector{suffix}: " in refusal(forest)


def test_a_harmless_object_of_another_kind_is_refused(forest):
    from skops.io import dumps

    replace(forest, ".skops", dumps(StandardScaler()), sign=True)
    assert "a StandardScaler is no IForest" in refusal(forest)


@pytest.mark.parametrize(
    ("entries", "problem"),
    [
        ({"class": "os.system"}, "'os.system', no detector"),
        ({"behind": "KNN"}, "'KNN' is not behind"),
        ({"behind": ["IForest"]}, "does not fit together"),
        ({"parameters": {"name": "Planted"}}, "does not fit together"),
        ({"parameters": {"surprise": 1}}, "surprise"),
        ({"columns": 4}, "numbers of columns differ"),
        ({"feature_names": ["a", "b"]}, "numbers of columns differ"),
        ({"steps": 3}, "does not fit together"),
    ],
)
def test_a_json_that_does_not_fit_is_refused(forest, entries, problem):
    change(forest, **entries)
    assert problem in refusal(forest)


# --- what cannot be saved -----------------------------------------------------------------------------------------


def test_what_could_not_be_loaded_is_not_saved(tmp_path):
    with pytest.raises(NotFittedError):
        save_detector(OutlierDetector(), tmp_path)
    with pytest.raises(InputError, match="StandardScaler: cannot be saved as a detector"):
        save_detector(StandardScaler().fit(rows(9, 0)), tmp_path)
    canberra = OutlierDetector("KNN", parameters={"metric": "canberra"}).fit(rows(40, 0))
    with pytest.raises(InputError, match=r"KNN: cannot be stored: it holds a .*CanberraDistance64"):
        save_detector(canberra, tmp_path)
    unusual = OutlierDetector("PCA", parameters={"n_components": np.int64(2)}).fit(rows(40, 0))
    with pytest.raises(InputError, match=r"cannot be saved: .*int64.* not JSON serializable"):
        save_detector(unusual, tmp_path)
    assert not list(tmp_path.iterdir())


# --- states -------------------------------------------------------------------------------------------------------


def test_a_calibrator_gives_the_same_p_values(tmp_path):
    calibrator = ConformalCalibrator().fit(rows(30, 3)[:, 0])
    save_state(calibrator, tmp_path, "calibrator")
    loaded = load_state(ConformalCalibrator(), tmp_path, "calibrator")
    questions = rows(20, 4)[:, 0]
    np.testing.assert_array_equal(loaded.p_value(questions), calibrator.p_value(questions))
    assert loaded.threshold(0.1) == calibrator.threshold(0.1)


def test_a_state_belongs_to_its_class(tmp_path):
    save_state(FeatureSteps().fit(rows(9, 0)), tmp_path, "fitted")
    with pytest.raises(InputError, match="saved from a 'FeatureSteps', not from a ConformalCalibrator"):
        load_state(ConformalCalibrator(), tmp_path, "fitted")
    with pytest.raises(InputError, match="'FeatureSteps', no detector"):
        load_detector(tmp_path, "fitted")


def test_a_state_its_object_does_not_take_is_refused_in_one_line(tmp_path):
    class Scorer:
        def state_dict(self):
            return {"mean_": [1.0]}

        def load_state_dict(self, state):
            raise KeyError("scale_\nof all")

    save_state(Scorer(), tmp_path, "scorer")
    with pytest.raises(InputError, match="scale_") as caught:
        load_state(Scorer(), tmp_path, "scorer")
    assert "\n" not in str(caught.value)


def test_a_state_in_the_place_of_a_detector_leaves_none_of_its_files(forest, caplog):
    with caplog.at_level(logging.WARNING):
        save_state(FeatureSteps().fit(rows(9, 0)), forest, "detector")
        load_state(FeatureSteps(), forest, "detector")
    assert sorted(path.name for path in forest.iterdir()) == ["detector.json", "detector.pt"]
    assert not caplog.records


def test_a_packed_detector_scores_the_same_and_trusts_no_more_than_a_saved_one():
    rows = np.random.default_rng(0).normal(size=(40, COLUMNS))
    detector = OutlierDetector("KNN", explained_variance=0.9).fit(rows, NAMES)
    packed = pack_detector(detector, "mine")
    loaded = unpack_detector(packed, "mine")
    assert np.array_equal(loaded.decision_function(rows), detector.decision_function(rows))
    assert list(loaded.feature_names_in_) == NAMES
    # Another class, with a hash that fits it: whoever changes the part can change the text, too.
    foreign = pack_detector(OutlierDetector("HBOS").fit(rows), "mine")[".skops"]
    text = json.loads(packed["json"])
    text["files"]["mine.skops"] = hashlib.sha256(foreign.numpy().tobytes()).hexdigest()
    with pytest.raises(InputError, match=r"holds .pyod\.models\.hbos\.HBOS., which such"):
        unpack_detector({**packed, ".skops": foreign, "json": json.dumps(text)}, "mine")
