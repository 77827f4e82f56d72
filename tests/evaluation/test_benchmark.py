"""The benchmark as a whole: who trains, calibrates and tests, p-values, resuming, repeating, and bad input."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from monai_ctmri.data.manifest import Manifest
from monai_ctmri.errors import InputError
from monai_ctmri.evaluation.benchmark import run_benchmark
from monai_ctmri.evaluation.cases import load_cases
from monai_ctmri.evaluation.methods import DECISION_METHOD
from monai_ctmri.evaluation.results import scores_table
from monai_ctmri.evaluation.settings import BenchmarkSettings
from monai_ctmri.networks import ConvolutionalAutoencoder
from monai_ctmri.scoring.reconstruction import ReconstructionScorer

BOTH = ("ct", "mri")


@pytest.fixture(params=["phantom_benchmark", "few_subjects_benchmark"])
def finished(request):
    return request.getfixturevalue(request.param)


def l1_mean(weights, cases, preprocess):
    """Decision scores by a network loaded from its file."""
    network = ConvolutionalAutoencoder(in_channels=2, spatial_size=[64, 64])
    network.load_state_dict(torch.load(weights, weights_only=True))
    scorer = ReconstructionScorer(network.eval(), BOTH)
    return [scorer.score(case).scores[DECISION_METHOD] for case in load_cases(cases, preprocess, BOTH)]


def test_no_subject_of_training_validation_or_calibration_is_tested(finished):
    run = finished.run
    tested = {case.subject for case in run.cases}
    for part in ("train", "validation", "calibration"):
        assert not tested & set(run.protocol.manifest.select(split=part).subjects)
    for folder in (finished.out / "training").iterdir():
        trained_on = Manifest.read(folder / "manifest.csv")
        assert not tested & set(trained_on.subjects)
        assert {case.label for case in trained_on} == {0}


def test_every_twin_has_its_clean_original_in_the_run(finished):
    by_name = {case.case: case for case in finished.run.cases}
    twins = [case for case in finished.run.cases if case.twin_of]
    assert twins
    for twin in twins:
        clean = by_name[twin.twin_of]
        assert (clean.label, clean.twin_of, clean.subject) == (0, "", twin.subject)
        outside = ~twin.mask
        same = {name: twin.images[name] == clean.images[name] for name in BOTH}
        assert not all(one.all() for one in same.values())
        if twin.kind == "wrong_pair":
            assert same["ct"].all()
        else:
            # all but the soft edge; float16 pictures
            assert all(one[outside].mean() > 0.95 for one in same.values())


def test_donors_of_wrong_pairs_are_other_subjects_of_the_test_part_where_there_are_some(phantom_benchmark):
    run = phantom_benchmark.run
    tested = {case.subject for case in run.originals}
    wrong = [case for case in run.cases if case.kind == "wrong_pair"]
    assert len(wrong) == 6
    for case in wrong:
        donor = case.details["donor_subject"]
        assert donor != case.subject
        assert donor in tested
        pictures = [one.images["mri"] for one in run.originals if one.subject == donor]
        assert any(np.array_equal(case.images["mri"], picture) for picture in pictures)


def test_wrong_pairs_need_a_second_unseen_normal_subject(few_subjects_benchmark):
    # What the network was trained on it reconstructs well, and such a pair would score below normal ones.
    assert not [case for case in few_subjects_benchmark.run.cases if case.kind == "wrong_pair"]
    assert any(note.startswith("No wrong pairs were made") for note in few_subjects_benchmark.results["notes"])


def test_calibration_scores_are_those_of_the_calibration_part(phantom_benchmark):
    run, folder = phantom_benchmark.run, phantom_benchmark.out / "training" / "final"
    calibration = run.protocol.manifest.select(split="calibration")
    scores = l1_mean(folder / "models" / "model.pt", calibration, run.trained.preprocess)
    assert len(scores) == 3
    np.testing.assert_allclose(run.calibration.calibrator.scores_, np.sort(scores), rtol=1e-5)


def test_few_subjects_calibrate_by_networks_that_never_saw_them(few_subjects_benchmark):
    run, out = few_subjects_benchmark.run, few_subjects_benchmark.out
    assert sorted(path.name for path in (out / "training").iterdir()) == ["final", "without-1", "without-2"]
    scores = []
    for number, subject in enumerate(run.protocol.manifest.select(split="train").subjects, start=1):
        folder = out / "training" / f"without-{number}"
        assert subject not in Manifest.read(folder / "manifest.csv").subjects
        left_out = run.protocol.manifest.select(subjects=[subject])
        scores += l1_mean(folder / "models" / "model.pt", left_out, run.trained.preprocess)
    assert len(scores) == 6
    np.testing.assert_allclose(run.calibration.calibrator.scores_, np.sort(scores), rtol=1e-5)


def test_p_values_by_hand(finished):
    calibration = finished.run.calibration.calibrator.scores_
    for case in finished.run.cases:
        at_least = sum(one >= case.scores[DECISION_METHOD] for one in calibration)
        assert case.p_value == pytest.approx((1 + at_least) / (len(calibration) + 1), abs=1e-12)


def test_originals_injected_and_labelled(phantom_benchmark, few_subjects_benchmark):
    run = phantom_benchmark.run
    assert [case.label for case in run.originals] == [0] * 6
    assert len(run.injected) == 6 + 24
    assert run.labelled == []  # one label only
    run = few_subjects_benchmark.run
    assert [case.label for case in run.labelled] == [0, 1, 1]
    assert [case.kind for case in run.labelled] == ["", "abnormal", "abnormal"]
    assert [case.label for case in run.injected] == [0, 1, 1, 1]
    for case in run.labelled[1:]:
        # the disc of radius 6 around (24, 32), at 64 / 60 of its size, 52 columns padded evenly to 60
        assert case.mask.sum() == pytest.approx(np.pi * 36 * (64 / 60) ** 2, rel=0.1)
        centre = [positions.mean() for positions in np.nonzero(case.mask)]
        assert centre == pytest.approx([24.5 * 64 / 60 - 0.5, 32.5 * 64 / 60 - 0.5 + (64 - 55) // 2], abs=0.6)
        assert (case.images["mri"][case.mask] > 0.9).mean() > 0.8


def test_sizes_and_features(few_subjects_benchmark):
    run = few_subjects_benchmark.run
    assert set(run.sizes.values()) == {(60, 52)}
    assert set(run.sizes) == {case.name for case in Manifest.read(few_subjects_benchmark.manifest)}
    assert run.healthy_features.shape == (6, run.cases[0].features.size)


def test_the_division_on_disk_is_that_of_the_run(finished):
    assert Manifest.read(finished.out / "manifest.csv") == finished.run.protocol.manifest


def test_the_same_run_again_gives_the_same_table(phantom_benchmark, tmp_path):
    """Elsewhere, after other random numbers were drawn."""
    torch.rand(3)
    again = run_benchmark(phantom_benchmark.manifest, tmp_path / "again", phantom_benchmark.settings)
    assert scores_table(again) == scores_table(phantom_benchmark.run)


def test_a_finished_run_given_again_trains_nothing_and_says_the_same(few_subjects_benchmark):
    weights = sorted(few_subjects_benchmark.out.rglob("model.pt"))
    before = [(path.stat().st_mtime_ns, path.read_bytes()) for path in weights]
    few = few_subjects_benchmark
    again = run_benchmark(few.manifest, few.out, few.settings)
    assert [(path.stat().st_mtime_ns, path.read_bytes()) for path in weights] == before
    assert scores_table(again) == scores_table(few.run)


def test_another_runs_folder_is_refused(phantom_benchmark):
    other = replace(phantom_benchmark.settings, seed=1)
    with pytest.raises(InputError, match=r"config\.yaml"):
        run_benchmark(phantom_benchmark.manifest, phantom_benchmark.out, other)


def subset(manifest, path, subjects, change=lambda case: case):
    cases = Manifest.read(manifest)
    kept = cases.select(subjects=cases.subjects[:subjects])
    Manifest([change(case) for case in kept]).write_csv(path)
    return path


def test_an_interrupted_run_continues_and_ends_as_one_that_ran_through(phantom_manifest, tmp_path):
    manifest = subset(phantom_manifest, tmp_path / "five.csv", 5)
    settings = BenchmarkSettings(image_size=64, max_epochs=2, repeats=50)

    def interrupt(stage, done, total):
        if stage == "Training" and done == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_benchmark(manifest, tmp_path / "cut", settings, progress=interrupt)
    seen = []
    resumed = run_benchmark(manifest, tmp_path / "cut", settings, progress=lambda *step: seen.append(step))
    through = run_benchmark(manifest, tmp_path / "through", settings)
    assert next(step for step in seen if step[0] == "Training") == ("Training", 2, 2)
    assert [entry["epoch"] for entry in resumed.trained.history] == [1, 2]
    for one, other in zip(resumed.trained.history, through.trained.history, strict=True):
        assert one == pytest.approx(other)
    assert scores_table(resumed) == scores_table(through)
    assert all(done <= total for _, done, total in seen)
    assert {stage for stage, *_ in seen} == {
        "Checking files",
        "Training",
        "Fitting detectors",
        "Calibrating (final)",
        "Scoring",
        "Zero-contrast control",
    }


def test_a_manifest_that_grew_does_not_continue_the_old_training(phantom_manifest, tmp_path):
    """The new division may test who trained the old network."""
    manifest = subset(phantom_manifest, tmp_path / "m.csv", 5)
    settings = BenchmarkSettings(image_size=64, max_epochs=1, repeats=50)
    run_benchmark(manifest, tmp_path / "run", settings)
    subset(phantom_manifest, manifest, 9)
    with pytest.raises(InputError, match="other cases"):
        run_benchmark(manifest, tmp_path / "run", settings)


def missing(folder, case):
    return replace(case, ct=folder / "nowhere.png")


def broken(folder, case):
    (folder / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n....")
    return replace(case, mri=folder / "broken.png")


def of_another_size(folder, case):
    Image.fromarray(np.arange(64 * 63, dtype=np.uint8).reshape(64, 63)).save(folder / "small.png")
    return replace(case, mri=folder / "small.png")


def blank(folder, case):
    Image.fromarray(np.zeros((64, 64), np.uint8)).save(folder / "blank.png")
    return replace(case, mri=folder / "blank.png")


@pytest.mark.parametrize(
    ("spoil", "named"),
    [(missing, "nowhere"), (broken, "broken"), (of_another_size, "small"), (blank, "blank")],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_a_bad_file_is_named_before_anything_is_written(phantom_manifest, tmp_path, spoil, named):
    manifest = subset(
        phantom_manifest,
        tmp_path / "m.csv",
        5,
        lambda case: spoil(tmp_path, case) if case.name.endswith("3_01") else case,
    )
    with pytest.raises(InputError, match=rf"{named}\.png") as caught:
        run_benchmark(manifest, tmp_path / "run", BenchmarkSettings(image_size=64, max_epochs=1))
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run").exists()


def one_modality_each(case):
    return replace(case, ct=None) if case.name.endswith("0") else replace(case, mri=None)


def first_subject_abnormal(case):
    return replace(case, label=int(case.subject.endswith("0")))


@pytest.mark.parametrize(
    ("subjects", "change"),
    [
        (5, one_modality_each),
        (2, lambda case: case),  # nothing to test
        (2, first_subject_abnormal),  # one normal subject
    ],
    ids=["no-common-modality", "two-normal", "one-normal"],
)
def test_a_manifest_that_cannot_be_divided_writes_nothing(phantom_manifest, tmp_path, subjects, change):
    manifest = subset(phantom_manifest, tmp_path / "m.csv", subjects, change)
    with pytest.raises(InputError):
        run_benchmark(manifest, tmp_path / "run", BenchmarkSettings(image_size=64, max_epochs=1))
    assert not (tmp_path / "run").exists()


def test_one_slice_a_subject_is_too_few_to_leave_one_out(phantom_manifest, tmp_path):
    cases = Manifest.read(phantom_manifest)
    kept = [replace(case, label=int(i == 2)) for i, case in enumerate(list(cases)[:9:3])]
    Manifest(kept).write_csv(tmp_path / "m.csv")
    with pytest.raises(InputError, match="one slice only"):
        run_benchmark(tmp_path / "m.csv", tmp_path / "run", BenchmarkSettings(image_size=64, max_epochs=1))
    assert not (tmp_path / "run").exists()


def test_a_missing_manifest_writes_nothing(tmp_path):
    with pytest.raises(InputError, match=r"none\.csv"):
        run_benchmark(tmp_path / "none.csv", tmp_path / "run")
    assert not (tmp_path / "run").exists()
