"""Several scorers as one: their evidence side by side."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from monai_ctmri.scoring.scorer import Evidence, Scorer

__all__ = ["JointScorer"]


class JointScorer:
    """Judge a case by several scorers and put their maps, scores and features together.

    A scorer that learns from normals and has not been fitted yet takes no part: :attr:`unfitted` names it.

    Args:
        scorers: by name, each with ``fit`` and ``score``; one that learns also has ``state_dict``, which raises
            RuntimeError before ``fit``, and ``load_state_dict``.

    Raises:
        ValueError: no scorer at all.
    """

    def __init__(self, scorers: Mapping[str, Scorer]) -> None:
        if not scorers:
            raise ValueError("give at least one scorer.")
        self.scorers = dict(scorers)

    @property
    def unfitted(self) -> list[str]:
        """Names of the scorers that still have to learn from normals."""
        return [name for name, scorer in self.scorers.items() if _state(scorer) is None]

    def fit(self, normal_cases: Iterable[Mapping[str, Any]]) -> JointScorer:
        """Fit every scorer on the same cases; what can be read once only is kept in memory."""
        cases = list(normal_cases) if isinstance(normal_cases, Iterator) else normal_cases
        for scorer in self.scorers.values():
            scorer.fit(cases)
        return self

    def state_dict(self) -> dict[str, Any]:
        """What the fitted scorers learnt, by name; scorers without a state are left out."""
        return {name: state for name, scorer in self.scorers.items() if (state := _state(scorer))}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take what :meth:`state_dict` gave; a scorer that it does not name stays as it is."""
        for name, content in state.items():
            if name in self.scorers:
                self.scorers[name].load_state_dict(content)  # type: ignore[attr-defined]

    def score(self, case: Mapping[str, Any]) -> Evidence:
        """Judge one case.

        Raises:
            ValueError: two scorers use one name for a map, score or feature.
        """
        together = Evidence()
        unfitted = self.unfitted
        for name, scorer in self.scorers.items():
            if name in unfitted:
                continue
            evidence = scorer.score(case)
            for part in ("maps", "scores", "features"):
                known, new = getattr(together, part), getattr(evidence, part)
                if twice := known.keys() & new.keys():
                    raise ValueError(f"{name} gives {part} that another scorer gave: {', '.join(sorted(twice))}.")
                known.update(new)
        return together


def _state(scorer: Scorer) -> dict[str, Any] | None:
    """The state of a scorer: empty where it has none, None where it has not been fitted."""
    get = getattr(scorer, "state_dict", None)
    if get is None:
        return {}
    try:
        return get()
    except RuntimeError:
        return None
