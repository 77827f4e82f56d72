"""Few patches that stand for many: a random sample of a stream, a greedy coreset, and distances to what was kept."""

from __future__ import annotations

import torch

__all__ = ["PatchSample", "greedy_coreset", "grid_positions", "nearest_distances"]


class PatchSample:
    """A uniform random sample of at most ``most`` rows of all that were added, in the order they came.

    Each row draws a number and those with the lowest numbers stay (Vitter's reservoir, ACM Trans Math Softw 11, 1985,
    in the form of a priority sample), so memory does not grow with the number of cases.

    Args:
        most: rows that stay, at least 1.
        seed: of the sample's own generator.
    """

    def __init__(self, most: int, seed: int = 0) -> None:
        self.most = most
        self._generator = torch.Generator().manual_seed(seed)
        self._rows: list[torch.Tensor] = []
        self._draws: list[torch.Tensor] = []

    def add(self, rows: torch.Tensor) -> None:
        """Offer rows (P, C)."""
        self._rows.append(rows)
        self._draws.append(torch.rand(len(rows), generator=self._generator, dtype=torch.float64))
        if sum(map(len, self._rows)) > 2 * self.most:
            self._thin_out()

    def rows(self) -> torch.Tensor:
        """The sample, (at most ``most``, C)."""
        self._thin_out()
        return self._rows[0]

    def _thin_out(self) -> None:
        rows, draws = torch.cat(self._rows), torch.cat(self._draws)
        if len(rows) > self.most:
            kept = draws.argsort()[: self.most].sort().values
            rows, draws = rows[kept], draws[kept]
        self._rows, self._draws = [rows], [draws]


def grid_positions(height: int, width: int) -> torch.Tensor:
    """Centres of the cells of a grid, row by row, (height * width, 2), in shares of the sides."""
    rows = (torch.arange(height) + 0.5) / height
    columns = (torch.arange(width) + 0.5) / width
    return torch.cartesian_prod(rows, columns)


def greedy_coreset(
    patches: torch.Tensor,
    count: int,
    seed: int = 0,
    positions: torch.Tensor | None = None,
    radius: float | None = None,
) -> torch.Tensor:
    """Greedy k-centre: from a random first patch on, always the patch farthest from all that were taken.

    The largest distance of a patch to its nearest taken one is at most twice the least possible (Gonzalez, Theor Comput
    Sci 38, 1985). With ``radius``, a patch can only stand for patches within it, so places come first, contents next.

    Args:
        patches: (P, C).
        count: patches to take: all, in their order, where there are no more; fewer where all others equal one that was
            taken, as far as single precision tells.
        seed: of the first patch.
        positions: (P, 2), needed with ``radius``.
        radius: distance in ``positions`` beyond which patches are infinitely far apart.

    Returns:
        Indices of the patches taken, in the order of taking.
    """
    if count >= len(patches):
        return torch.arange(len(patches))
    centred = patches - patches.mean(dim=0)
    squares = centred.square().sum(dim=1)
    nearest = torch.full_like(squares, torch.inf)
    taken = [int(torch.randint(len(patches), (1,), generator=torch.Generator().manual_seed(seed)))]
    while True:
        last = taken[-1]
        squared = (squares + squares[last] - 2 * (centred @ centred[last])).clamp(min=0)
        if radius is not None and positions is not None:
            squared[(positions - positions[last]).norm(dim=1) > radius] = torch.inf
        nearest = torch.minimum(nearest, squared)
        nearest[last] = 0.0  # rounding must not offer it again
        farthest = int(nearest.argmax())
        if len(taken) >= count or nearest[farthest] == 0:
            return torch.tensor(taken)
        taken.append(farthest)


def nearest_distances(
    patches: torch.Tensor,
    rows: torch.Tensor,
    k: int = 1,
    positions: torch.Tensor | None = None,
    row_positions: torch.Tensor | None = None,
    radius: float | None = None,
) -> torch.Tensor:
    """Mean Euclidean distance of each patch to its ``k`` nearest rows, (P,) float64.

    Args:
        patches: (P, C).
        rows: (R, C).
        k: neighbours, fewer where there are fewer.
        positions: (P, 2) and ``row_positions`` (R, 2), needed with ``radius``.
        row_positions: see ``positions``.
        radius: only rows within it are asked; where there is none, those nearest in position.
    """
    # Double precision: the fast formula below loses half of the digits where distances are small.
    centre = rows.double().mean(dim=0)
    one, other = patches.double() - centre, rows.double() - centre
    squared = one.square().sum(dim=1, keepdim=True) + other.square().sum(dim=1) - 2 * (one @ other.T)
    distances = squared.clamp(min=0).sqrt()
    if radius is not None and positions is not None and row_positions is not None:
        apart = torch.cdist(positions.double(), row_positions.double(), compute_mode="donot_use_mm_for_euclid_dist")
        reach = apart.amin(dim=1, keepdim=True).clamp(min=radius)
        distances = distances.masked_fill(apart > reach, torch.inf)
    closest = distances.topk(min(k, len(rows)), dim=1, largest=False).values
    there = closest.isfinite()
    return closest.where(there, 0.0).sum(dim=1) / there.sum(dim=1)
