"""What a simulator has to offer to be measured."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

__all__ = ["Simulator"]


class Simulator:
    """One simulator in one configuration.

    Attributes
    ----------
    inside : float or None
        Seconds that the last call spent below Python, where the simulator says so.
    """

    def __init__(self, problem: Any, configuration: str, cores: int = 1) -> None:
        self.problem, self.configuration, self.cores = problem, configuration, cores
        self.inside: float | None = None

    def simulate(self, case: int, rtol: float) -> np.ndarray:
        """EGFR and UACR, (n_times, 2), of one case."""
        raise TypeError(f"{type(self).__name__} must say how one case is simulated.")

    def gradient(self, case: int, rtol: float) -> tuple[np.ndarray, np.ndarray]:
        """The same and its derivatives with respect to the 25 parameters, (n_times, 2, 25), natural scale."""
        raise TypeError(f"{type(self).__name__} has no gradients.")

    def population(self, cases: Sequence[int], rtol: float) -> None:
        """Many cases one after the other; a simulator with something better overrides it."""
        for case in cases:
            self.simulate(case, rtol)
