"""What PyOD's detectors lack for scoring one case at a time, on numpy and torch; PyOD itself is loaded by the caller.

Two classes stand in for detectors of PyOD, the functions score with detectors PyOD has fitted.
"""

from __future__ import annotations

from copy import deepcopy
from importlib import import_module
from typing import Any

import numpy as np

__all__ = [
    "EmpiricalTails",
    "NystroemOneClassSVM",
    "finish_deep_isolation",
    "finish_lunar",
    "score_deep_isolation",
    "score_deep_svdd",
    "score_inne",
    "score_loda",
    "score_lunar",
    "score_reconstruction",
]


class EmpiricalTails:
    """ECOD (Li et al. 2022) and COPOD (Li et al. 2020) with each row scored against the fitted rows alone.

    PyOD ranks all rows of a call among each other, so that a case's score depends on the company it is scored in. Here
    a row is ranked among the N fitted rows and itself: the score equals that of PyOD's ``decision_function`` called
    with that one row. Fit O(F N log N), score O(F log N) a row.

    Args:
        rule: ``"ecod"``: the larger of the two tails and the tail the skewness points at, a column; ``"copod"``: the
            larger of the mean of the two tails and the tail the skewness points at.

    Attributes:
        sorted_: the fitted columns, ascending, float64 (F, N).
        moments_: float64 (3, F): mean, and sums of squared and of cubed deviations.
    """

    def __init__(self, rule: str = "ecod") -> None:
        self.rule = rule

    def fit(self, rows: np.ndarray) -> EmpiricalTails:
        """Sort the columns of rows (N, F)."""
        if self.rule not in ("ecod", "copod"):
            raise ValueError(f"rule {self.rule!r} is neither 'ecod' nor 'copod'")
        self.sorted_ = np.ascontiguousarray(np.sort(rows, axis=0).T)
        mean = rows.mean(axis=0)
        self.moments_ = np.stack([mean, ((rows - mean) ** 2).sum(axis=0), ((rows - mean) ** 3).sum(axis=0)])
        return self

    def decision_function(self, rows: np.ndarray) -> np.ndarray:
        """Sum over the columns of the negative log tail probability, (N,)."""
        total = np.zeros(len(rows))
        count = self.sorted_.shape[1]
        for column, fitted in enumerate(self.sorted_):
            values = rows[:, column]
            # The row itself belongs to both tails, hence the 1.
            left = -np.log((np.searchsorted(fitted, values, side="right") + 1) / (count + 1))
            right = -np.log((count - np.searchsorted(fitted, values, side="left") + 1) / (count + 1))
            skewness = self._skewness_sign(values, column)
            pointed = np.where(skewness > 0, right, np.where(skewness < 0, left, left + right))
            plain = np.maximum(left, right) if self.rule == "ecod" else (left + right) / 2
            total += np.maximum(plain, pointed)
        return total

    def _skewness_sign(self, values: np.ndarray, column: int) -> np.ndarray:
        """Sign of the skewness of the fitted column and the one value, by updating the central moments."""
        mean, second, third = self.moments_[:, column]
        count = self.sorted_.shape[1]
        delta = values - mean
        new_second = second + delta**2 * count / (count + 1)
        new_third = third + delta**3 * count * (count - 1) / (count + 1) ** 2 - 3 * delta * second / (count + 1)
        # scipy's rule for a column that is constant up to rounding, which PyOD then calls unskewed.
        floor = (np.finfo(np.float64).eps * (mean + delta / (count + 1))) ** 2
        return np.where(new_second / (count + 1) <= floor, 0.0, np.sign(new_third))


class NystroemOneClassSVM:
    """One-class SVM in linear time: a kernel map by Nystroem (Williams and Seeger 2001), then stochastic descent.

    Args:
        nu: upper bound of the share of fitted rows left outside, in (0, 1].
        kernel, gamma, degree, coef0: the kernel, as of ``sklearn.svm.OneClassSVM``; gamma ``"scale"`` or ``"auto"``.
        n_components: rows the kernel map is built on.
        random_state: seed.

    Attributes:
        map_: the fitted ``sklearn.kernel_approximation.Nystroem``.
        svm_: the fitted ``sklearn.linear_model.SGDOneClassSVM``.
    """

    def __init__(
        self,
        nu: float = 0.1,
        kernel: str = "rbf",
        gamma: float | str = "scale",
        degree: int = 3,
        coef0: float = 0.0,
        n_components: int = 300,
        random_state: int | None = None,
    ) -> None:
        self.nu = nu
        self.kernel = kernel
        self.gamma = gamma
        self.degree = degree
        self.coef0 = coef0
        self.n_components = n_components
        self.random_state = random_state

    def fit(self, rows: np.ndarray) -> NystroemOneClassSVM:
        """Fit rows (N, F)."""
        from sklearn.kernel_approximation import Nystroem
        from sklearn.linear_model import SGDOneClassSVM

        gamma = self.gamma
        if gamma == "scale":
            variance = float(rows.var())
            gamma = 1.0 / (rows.shape[1] * variance) if variance > 0 else 1.0
        elif gamma == "auto":
            gamma = 1.0 / rows.shape[1]
        own = {} if self.kernel == "linear" else {"gamma": gamma}
        if self.kernel == "poly":
            own["degree"] = self.degree
        if self.kernel in ("poly", "sigmoid"):
            own["coef0"] = self.coef0
        count = min(self.n_components, len(rows))
        self.map_ = Nystroem(self.kernel, n_components=count, random_state=self.random_state, **own)
        self.svm_ = SGDOneClassSVM(nu=self.nu, random_state=self.random_state).fit(self.map_.fit_transform(rows))
        return self

    def decision_function(self, rows: np.ndarray) -> np.ndarray:
        """Scores (N,); higher is more abnormal."""
        return -self.svm_.decision_function(self.map_.transform(rows))


def score_reconstruction(detector: Any, rows: np.ndarray) -> np.ndarray:
    """AutoEncoder and VAE: the distance of a row to its reconstruction, from the mean of the latent distribution.

    PyOD's VAE draws the latent code anew at each scoring. In double precision, because a matrix product in single
    precision differs with the number of rows beyond 1e-6.
    """
    import torch

    model = detector.model.eval().double()
    with torch.no_grad():
        given = torch.as_tensor(rows, device=next(model.parameters()).device)
        if detector.preprocessing:
            mean, deviation = (torch.as_tensor(value).to(given) for value in (detector.X_mean, detector.X_std))
            given = (given - mean) / (deviation + 1e-8)
        rebuilt = model.decode(model.encode(given)[0]) if hasattr(model, "encoder_mu") else model(given)
        return (given - rebuilt).square().sum(dim=1).sqrt().cpu().numpy()


def score_deep_svdd(detector: Any, rows: np.ndarray) -> np.ndarray:
    """DeepSVDD: squared distance to the centre, in double precision."""
    import torch

    model = detector.model_.eval().double()
    given = detector.scaler_.transform(rows) if detector.preprocessing else rows
    with torch.no_grad():
        return (model(torch.as_tensor(given)) - detector.c_.double()).square().sum(dim=1).numpy()


def finish_lunar(detector: Any, rows: np.ndarray) -> None:
    """LUNAR: search the neighbours in double precision; squared distances in single lose half their digits."""
    detector.neigh.fit(np.asarray(detector.neigh._fit_X, dtype=np.float64))


def score_lunar(detector: Any, rows: np.ndarray) -> np.ndarray:
    """LUNAR: the network's score of the distances to the nearest neighbours, in double precision."""
    import torch

    given = rows if detector.scaler_ is None else detector.scaler_.transform(rows)
    distances, _ = detector.neigh.kneighbors(given, detector.n_neighbours)
    network = detector.network.eval().double()
    with torch.no_grad():
        return network(torch.as_tensor(distances).to(next(network.parameters()))).cpu().numpy().ravel()


def finish_deep_isolation(detector: Any, rows: np.ndarray) -> None:
    """DIF: keep mean and spread of the fitted rows' representations, and drop the representations themselves.

    PyOD standardises the representations of the rows it is asked for by their own mean and spread, so a case's score
    depends on its company, and a row alone is always average.
    """
    scaled = detector.minmax_scaler.transform(rows)
    found = [_represent(network, scaled) for network in detector.net_lst]
    detector.representation_mean_ = np.stack([values.mean(axis=0) for values in found])
    spread = np.stack([values.std(axis=0) for values in found])
    detector.representation_scale_ = np.where(spread > 0, spread, 1.0)
    detector.x_reduced_lst = []


def score_deep_isolation(detector: Any, rows: np.ndarray) -> np.ndarray:
    """DIF: PyOD's score of the representations, standardised as the fitted rows were."""
    score = import_module("pyod.models.dif")._cal_score
    scaled = detector.minmax_scaler.transform(rows)
    total = np.zeros(len(rows))
    for member, (network, forest) in enumerate(zip(detector.net_lst, detector.iForest_lst, strict=True)):
        mean, scale = detector.representation_mean_[member], detector.representation_scale_[member]
        total += score(np.tanh((_represent(network, scaled) - mean) / scale), forest)
    return total / len(detector.net_lst)


def _represent(network: Any, rows: np.ndarray) -> np.ndarray:
    import torch

    # A copy: the ensemble stays in single precision, which halves its size in memory and on disk.
    exact = deepcopy(network).double()
    with torch.no_grad():
        return exact(torch.as_tensor(rows).to(next(exact.parameters()))).cpu().numpy()


def score_inne(detector: Any, rows: np.ndarray) -> np.ndarray:
    """INNE (Bandaragoda et al. 2018): mean isolation over the ensemble, with the rim of a sphere counted as inside.

    The radius of a sphere is the distance to another fitted row. That row lies on the rim, and rounding, which changes
    with the number of rows, would put it inside or outside.
    """
    from sklearn.metrics import euclidean_distances

    total = np.zeros(len(rows))
    for centres, radii, ratio in zip(detector._centroids, detector._centroids_radius, detector._ratio, strict=True):
        inside = euclidean_distances(rows, centres, squared=True) <= radii * (1.0 + 1e-9) + 1e-12
        nearest = np.where(inside, radii, np.inf).argmin(axis=1)
        total += np.where(inside.any(axis=1), ratio[nearest], 1.0)
    return total / len(detector._ratio)


def score_loda(detector: Any, rows: np.ndarray) -> np.ndarray:
    """LODA (Pevny 2016): mean negative log density over the one-dimensional histograms.

    PyOD looks each value up one bin beside its own and gives a value beyond the histogram the density of the last bin,
    so that a far case can pass as usual; here such a value has the density of an empty bin.
    """
    total = np.zeros(len(rows))
    cuts = zip(detector.projections_, detector.histograms_, detector.limits_, strict=True)
    for projection, histogram, limits in cuts:
        used = np.flatnonzero(projection)
        # A sum along the row, not a matrix product: a fitted row at a bin's edge must fall on the same side in any
        # company.
        values = (rows[:, used] * projection[used]).sum(axis=1)
        density = np.asarray(histogram)[np.searchsorted(limits[1:-1], values, side="right")]
        margin = 1e-9 * (limits[-1] - limits[0])
        outside = (values < limits[0] - margin) | (values > limits[-1] + margin)
        total -= np.log(np.where(outside, 1e-12, density))
    return total / len(detector.projections_)
