"""Which parameters the evidence can inform, found before anything is fitted.

The model has some four hundred uncertain numbers, and most of them no row of the evidence can move. One Jacobian of all
predictions by all parameters, at the medians of the priors, says how far a linear analysis would narrow each: those that
it narrows by less than a limit keep their prior and are not sampled. They are drawn from it wherever the posterior is
used, so that nothing looks better known than it is.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import pandas as pd

from mscrenal.calibration.observations import Datum
from mscrenal.calibration.predictions import POTENCY, Predictions, study_potency
from mscrenal.calibration.studies import Study
from mscrenal.model import sampled_parameters

__all__ = ["ALWAYS", "CONTRACTION", "blind_spots", "row_spread", "screen", "select"]

# Narrowing of the standard deviation below which a parameter keeps its prior.
CONTRACTION = 0.05
# What the question is about is sampled whatever the screening says.
ALWAYS = (
    POTENCY,
    "species.human.translation",
    "memory_decay",
    "crowding",
    "cytoprotection_on_slit_synthesis",
    "cytoprotection_on_nephron_loss",
    "immunomodulation_on_autoimmunity_synthesis",
    "immunomodulation_on_m1_recruitment",
    "metabolic_on_insulin_sensitivity_synthesis",
    "metabolic_on_beta_cells_synthesis",
)
# Of a row's own spread: a derivative this small, everywhere looked at, does not matter to a sampler's path.
NEGLIGIBLE = 2e-3
LOOKS = 6


def row_spread(data: Sequence[Datum]) -> np.ndarray:
    """What each row can resolve before anything is fitted: standard error, residual, spread between subjects, (n_data,)."""
    error = np.array([d.error for d in data])
    residual = np.array([0.7 * d.kind.residual * d.residual_scale for d in data])
    between = np.array([d.kind.between if d.measure in ("smd", "share") else 0.0 for d in data])
    return np.sqrt(np.nan_to_num(error) ** 2 + residual**2 + between**2)


def screen(
    data: Sequence[Datum], studies: Mapping[str, Study], *, workers: int | None = None
) -> pd.DataFrame:
    """How far a linear analysis around the medians of the priors narrows each sampled parameter.

    Returns
    -------
    DataFrame
        parameter, contraction (1 - posterior SD / prior SD), influence (root of the summed squares of the scaled
        derivatives); the most narrowed first.

    Notes
    -----
    Each study's level is taken out of its rows as a free direction, so that what only a level explains does not count.
    """
    names = list(sampled_parameters())
    found = Predictions(data, studies, names, workers=workers)(np.zeros(len(names)))
    scaled = found.jacobian / row_spread(data)[:, None]
    scaled[~np.isfinite(scaled).all(axis=1)] = 0.0
    levels = sorted({(d.study, d.observable, d.measure) for d in data if d.own_level > 0})
    own = np.array(
        [[d.own_level * ((d.study, d.observable, d.measure) == shared) for shared in levels] for d in data]
    )
    design = np.hstack([scaled, own.reshape(len(data), -1) / row_spread(data)[:, None]])
    covariance = np.linalg.inv(np.eye(design.shape[1]) + design.T @ design)
    narrowed = 1.0 - np.sqrt(np.diag(covariance)[: len(names)])
    table = pd.DataFrame(
        {"parameter": names, "contraction": narrowed, "influence": np.sqrt((scaled**2).sum(axis=0))}
    )
    return table.sort_values("contraction", ascending=False, ignore_index=True)


def select(table: pd.DataFrame, products: Iterable[str] = (), limit: float = CONTRACTION) -> tuple[str, ...]:
    """Parameters to sample, in the order of their declaration.

    Parameters
    ----------
    products
        Given in some arm: how strongly each acts is sampled, so that the spread between products is learnt.
    """
    chosen = {*table.loc[table["contraction"] >= limit, "parameter"], *ALWAYS}
    chosen |= {f"product.{name}.secretion" for name in products}
    return tuple(name for name in sampled_parameters() if name in chosen)


def blind_spots(
    data: Sequence[Datum],
    studies: Mapping[str, Study],
    names: Sequence[str],
    potent: Sequence[str],
    *,
    workers: int | None = None,
) -> dict[str, frozenset[str]]:
    """For each arm the coordinates whose derivatives can be left out of it.

    Looked at in the middle of the prior and at some draws of it. A sampler corrects for slopes that are a little
    off by its acceptance step; values are never approximated.
    """
    vector = (*names, *(study_potency(s) for s in potent))
    predict = Predictions(data, studies, vector, workers=workers)
    sigma = row_spread(data)
    weight = np.zeros((len(data), len(vector)))
    generator = np.random.default_rng(20261122)
    for look in range(LOOKS):
        z = 0.8 * generator.standard_normal(len(vector)) if look else np.zeros(len(vector))
        size = np.abs(predict(z).jacobian) / sigma[:, None]
        weight = np.fmax(weight, np.where(np.isfinite(size), size, 0.0))
    out = {}
    for arm in predict.simulations.arm_names:
        mine = [k for k, d in enumerate(data) if any(f"{d.study}: {t.arm}" == arm for t in d.terms)]
        small = weight[mine].max(axis=0) < NEGLIGIBLE
        out[arm] = frozenset(n for n, s in zip(vector, small, strict=True) if s)
    return out
