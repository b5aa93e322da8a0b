"""Static sparse LU: the factorisation of one sparsity pattern, planned once and written out.

A Rosenbrock step solves with (1/(hγ))·1 - J, whose pattern is that of the model and never changes. The pivots
are taken from the diagonal in Markowitz order (fewest multiplications first), without exchange at run time;
what that owes is a check of the pivots, which the stepper makes.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

import numpy as np

__all__ = ["StaticLU", "plan"]


@dataclass(frozen=True)
class StaticLU:
    """The plan of a factorisation.

    Attributes
    ----------
    n : int
        Rows.
    entries : tuple of (row, column)
        Non-zeros of L + U after fill-in, sorted; position k of the work array ``w`` holds entry k.
    steps : tuple of (pivot, rows below, columns right)
        In the order of elimination.
    """

    n: int
    entries: tuple[tuple[int, int], ...]
    steps: tuple[tuple[int, tuple[int, ...], tuple[int, ...]], ...]

    @cached_property
    def position(self) -> dict[tuple[int, int], int]:
        """Position of each entry in ``w``."""
        return {entry: k for k, entry in enumerate(self.entries)}

    @cached_property
    def diagonal(self) -> np.ndarray:
        """Positions of the diagonal, int32 (n,)."""
        return np.array([self.position[k, k] for k in range(self.n)], dtype=np.int32)

    @cached_property
    def multiplications(self) -> int:
        """Multiply-adds of one factorisation."""
        return sum(len(below) * len(right) for _, below, right in self.steps)

    def factor_source(self, name: str) -> str:
        """Source of ``name(w)``: factorises in place; the diagonal of ``w`` ends as reciprocal pivots.

        The element of ``w`` beyond the entries becomes the smallest absolute pivot.
        """
        at = self.position
        updates: dict[tuple[int, int], list[str]] = {}
        for pivot, below, right in self.steps:
            for i in below:
                for j in right:
                    updates.setdefault((i, j), []).append(f" - v_{at[i, pivot]} * v_{at[pivot, j]}")

        def value(entry: tuple[int, int]) -> str:
            return f"w[{at[entry]}]" + "".join(updates.get(entry, ()))

        # Each entry is written once, when all that is taken from it is known: few statements for the compiler.
        lines = [f"def {name}(w):", "    least = inf"]
        for pivot, below, right in self.steps:
            k = at[pivot, pivot]
            lines += [f"    v_{k} = {value((pivot, pivot))}", f"    least = min(least, abs(v_{k}))"]
            lines += [f"    v_{k} = 1.0 / v_{k}", f"    w[{k}] = v_{k}"]
            for j in right:
                entry = at[pivot, j]
                if (pivot, j) in updates:
                    lines += [f"    v_{entry} = {value((pivot, j))}", f"    w[{entry}] = v_{entry}"]
                elif below:
                    lines.append(f"    v_{entry} = w[{entry}]")
            for i in below:
                entry = at[i, pivot]
                terms = value((i, pivot))
                lines.append(
                    f"    v_{entry} = ({terms}) * v_{k}"
                    if "-" in terms
                    else f"    v_{entry} = {terms} * v_{k}"
                )
                lines.append(f"    w[{entry}] = v_{entry}")
        lines.append(f"    w[{len(self.entries)}] = least")
        return "\n".join(lines) + "\n"

    def solve_source(self, name: str) -> str:
        """Source of ``name(w, b)``: overwrites b (n,) with the solution, from a factorised ``w``."""
        at = self.position
        lines = [f"def {name}(w, b):"]
        lines += [f"    b_{k} = b[{k}]" for k in range(self.n)]
        for pivot, below, _ in self.steps:
            lines += [f"    b_{i} -= w[{at[i, pivot]}] * b_{pivot}" for i in below]
        for pivot, _, right in reversed(self.steps):
            sum_ = "".join(f" - w[{at[pivot, j]}] * b_{j}" for j in right)
            lines.append(f"    b_{pivot} = (b_{pivot}{sum_}) * w[{at[pivot, pivot]}]")
        lines += [f"    b[{k}] = b_{k}" for k in range(self.n)]
        return "\n".join(lines) + "\n"

    @cached_property
    def programme(self) -> tuple[np.ndarray, ...]:
        """The same as lists of positions, for code that loops over them.

        Returns
        -------
        tuple of int32 ndarray
            ``pivots`` (n_below,) and ``lowers`` (n_below,): w[lower] /= w[pivot]; ``starts`` (n_below + 1,) into
            ``targets`` and ``uppers``: w[target] -= w[lower] * w[upper]. Then the solves, row by row: ``down`` (n, 2) row and
            position of its pivot, in the order of elimination, ``down_starts`` (n + 1,) into ``down_terms`` (., 2): column
            and position; ``up``, ``up_starts``, ``up_terms`` the same for the way back.
        """
        at = self.position
        pivots, lowers, starts, targets, uppers = [], [], [0], [], []
        before: dict[int, list[tuple[int, int]]] = {k: [] for k in range(self.n)}
        for pivot, below, right in self.steps:
            for i in below:
                pivots.append(at[pivot, pivot])
                lowers.append(at[i, pivot])
                targets += [at[i, j] for j in right]
                uppers += [at[pivot, j] for j in right]
                starts.append(len(targets))
                before[i].append((pivot, at[i, pivot]))
        flat = (pivots, lowers, starts, targets, uppers)
        down = self._rows([(pivot, before[pivot]) for pivot, _, _ in self.steps])
        up = self._rows(
            [(pivot, [(j, at[pivot, j]) for j in right]) for pivot, _, right in reversed(self.steps)]
        )
        return (*(np.array(x, dtype=np.int32) for x in flat), *down, *up)

    def _rows(
        self, rows: list[tuple[int, list[tuple[int, int]]]]
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        heads = [(row, self.position[row, row]) for row, _ in rows]
        starts = np.cumsum([0, *(len(terms) for _, terms in rows)])
        terms = [term for _, row_terms in rows for term in row_terms]
        return (
            np.array(heads, dtype=np.int32),
            starts.astype(np.int32),
            np.array(terms, dtype=np.int32).reshape(-1, 2),
        )


def plan(n: int, pattern: Iterable[tuple[int, int]]) -> StaticLU:
    """Order the elimination of an n × n pattern, diagonal included, by Markowitz counts."""
    rows: list[set[int]] = [{k} for k in range(n)]
    columns: list[set[int]] = [{k} for k in range(n)]
    for i, j in pattern:
        rows[i].add(j)
        columns[j].add(i)
    left = set(range(n))
    steps = []
    while left:
        # Ties go to the first, so that the plan is the same on every machine.
        pivot = min(left, key=lambda k: ((len(rows[k] & left) - 1) * (len(columns[k] & left) - 1), k))
        left.remove(pivot)
        below, right = sorted(columns[pivot] & left), sorted(rows[pivot] & left)
        for i in below:
            rows[i].update(right)
        for j in right:
            columns[j].update(below)
        steps.append((pivot, tuple(below), tuple(right)))
    entries = tuple(sorted((i, j) for i in range(n) for j in rows[i]))
    return StaticLU(n, entries, tuple(steps))
