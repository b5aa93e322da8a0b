"""What the placement of initial states needs to know of the model: which equations, in which order.

The square system behind a patient's initial state is stated here once, for the plain iteration in
`mscrenal.model.initial` and for the compiled one in `mscrenal.model.placing`. Unknown are the states that no
covariate gives. Each has its own balance as equation, but for three: nephrons are placed by the GFR, podocytes
by the UACR, and β cells by the balance of glucose, whose own balance then gives their set point.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mscrenal.model.build import Model
from mscrenal.model.sparse import plan

__all__ = ["ANCHORS", "BALANCED_BY", "FOUND", "GIVEN", "history_states", "placement_tables", "unknown_states"]

# States that covariates give outright.
GIVEN = ("creatinine", "glucose", "glycation", "insulin", "autoimmunity", "immune_complexes", "c3")
# Unknown state: observable that places it.
ANCHORS = {"nephrons": "mgfr", "podocytes": "uacr"}
# Unknown state: the state whose balance places it.
BALANCED_BY = {"beta_cells": "glucose"}


def unknown_states(model: Model) -> tuple[str, ...]:
    """The states that are solved for, in order; cells and what they leave start at zero."""
    skip = {n for n, s in model.states.items() if s.start == "zero"} | set(GIVEN)
    # Licensing is solved for like the rest; it only starts at zero.
    return tuple(n for n in model.states if n not in skip or n == "licensing")


def history_states(model: Model) -> tuple[str, ...]:
    """The unknown states that have been on their way since the disease began."""
    return tuple(n for n in unknown_states(model) if model.states[n].start == "history")


def placement_tables(
    model: Model, jacobian: Sequence[tuple[int, int]], observed: Sequence[tuple[int, int]]
) -> tuple[np.ndarray, ...]:
    """The fields of `mscrenal.model.placing.PlacementTables`.

    Parameters
    ----------
    jacobian, observed : sequence of (row, column)
        Patterns of the derivatives of the rates and of the observables, in the order of their values.
    """
    unknown = unknown_states(model)
    row_of = {name: k for k, name in enumerate(unknown)}
    column_of = {model.index[name]: k for k, name in enumerate(unknown)}
    rates = {}
    for name, row in row_of.items():
        if name not in ANCHORS:
            rates[model.index[BALANCED_BY.get(name, name)]] = row
    seen = {model.observable_names.index(o): row_of[name] for name, o in ANCHORS.items()}
    from_jac = [
        (e, (rates[i], column_of[j])) for e, (i, j) in enumerate(jacobian) if i in rates and j in column_of
    ]
    from_seen = [
        (e, (seen[i], column_of[j]), list(seen).index(i))
        for e, (i, j) in enumerate(observed)
        if i in seen and j in column_of
    ]
    lu = plan(len(unknown), [at for _, at in from_jac] + [at for _, at, _ in from_seen])
    state_of_row = {row: state for state, row in rates.items()}
    history = history_states(model)
    special = [
        *(model.observable_names.index(o) for o in ANCHORS.values()),
        *(row_of[name] for name in (*ANCHORS, *BALANCED_BY)),
        len(lu.entries),
        *(model.index[name] for name in ("beta_cells", "glucose", "creatinine", "autoimmunity")),
        *(model.parameter_index[name] for name in (*FOUND, "gfr_healthy")),
    ]
    tables = (
        [model.index[n] for n in unknown],
        [state_of_row.get(k, -1) for k in range(len(unknown))],
        lu.diagonal,
        [(e, lu.position[at]) for e, at in from_jac],
        [(e, lu.position[at], which) for e, at, which in from_seen],
        [row_of[n] for n in history],
        np.array([float(model.states[n].healthy) for n in history]),
        *lu.programme,
        special,
    )
    return tuple(t if isinstance(t, np.ndarray) else np.array(t, dtype=np.int32) for t in tables)


# Parameters that follow from the state placed.
FOUND = ("beta_set", "glucose_goal", "insulin_start", "creatinine_generation", "lupus")
