"""How well a posterior was sampled, and what each parameter learnt from which data."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from mscrenal.calibration.course import STUDY as COURSE
from mscrenal.calibration.inference import Density
from mscrenal.calibration.sampler import TRUSTED_K, Sampled
from mscrenal.calibration.selection import row_spread

if TYPE_CHECKING:
    from mscrenal.calibration.calibrate import Prepared

__all__ = ["diagnostics", "meets_the_bar", "verdicts"]

# The bar of a full run.
MOST_RHAT, LEAST_ESS = 1.01, 400.0
# Contraction (1 - posterior SD / prior SD) above which a parameter counts as identified, or as informed at all.
IDENTIFIED, INFORMED = 0.3, 0.1
MOST_SOURCES = 3


def diagnostics(density: Density, sampled: Sampled, *, draft: bool) -> dict[str, Any]:
    """Divergences, largest R-hat, smallest effective sample sizes over everything sampled and everything reported.

    Of the chains of NUTS; beside them how evenly the engine weighs their draws.

    Parameters
    ----------
    draft : bool
        A draft has independent draws of an approximation: there is nothing to diagnose, and it says so.
    """
    if draft:
        return {"draft": True, "divergences": 0, "rhat_max": None, "ess_bulk_min": None, "ess_tail_min": None}
    import arviz as az

    chains = sampled.chains
    free = np.array([c.draws for c in chains])
    seen = np.array([density.coordinates(c.draws) for c in chains])
    dims = ("chain", "draw")
    both = xr.Dataset({"free": ((*dims, "k"), free), "coordinates": ((*dims, "m"), seen)})
    rhat, bulk = az.rhat(both), az.ess(both, method="bulk")
    tail = az.ess(both, method="tail", prob=(0.05, 0.95))
    return {
        "draft": False,
        "divergences": int(sum(np.asarray(c.stats["diverging"]).sum() for c in chains)),
        "rhat_max": float(max(rhat[v].max() for v in both)),
        "ess_bulk_min": float(min(bulk[v].min() for v in both)),
        "ess_tail_min": float(min(tail[v].min() for v in both)),
        "steps_mean": float(np.concatenate([np.asarray(c.stats["n_steps"]) for c in chains]).mean()),
        "gradients": int(sum(c.evaluations for c in chains)),
        "minutes_of_chains": float(sum(c.seconds for c in chains) / 60),
        "chains": len(chains),
        "draws": int(free.shape[1]),
        **sampled.notes,
    }


def meets_the_bar(found: dict[str, Any]) -> bool:
    """R-hat below 1.01, effective sizes above 400, no divergence, and weights of the engine that can be trusted."""
    return (
        not found.get("draft")
        and found["divergences"] == 0
        and found["rhat_max"] < MOST_RHAT
        and min(found["ess_bulk_min"], found["ess_tail_min"], found["weight_ess"]) > LEAST_ESS
        and found["pareto_k"] < TRUSTED_K
    )


def verdicts(ready: Prepared, data: xr.Dataset) -> dict[str, dict[str, Any]]:
    """For each calibrated parameter its contraction, a verdict in words, and the studies that speak most of it.

    Which studies: those whose rows' derivatives by the parameter, in units of the rows' spread, weigh most at the
    medians of the prior; the published course behind the joint prior counts as one.
    """
    problem = ready.problem
    z = data["z"].values.reshape(-1, data.sizes["parameter"])
    found = ready.predictions()(np.zeros(len(problem.vector)))
    weight = (found.jacobian / row_spread(problem.data)[:, None]) ** 2
    owners = np.array([d.study for d in problem.data])
    joint = problem.joint
    course = {} if joint is None else dict(zip(joint.names, joint.information, strict=True))
    out = {}
    for k, name in enumerate(problem.names):
        # A study's own potency speaks of the potency that all share.
        columns = [k] + [i for i, n in enumerate(problem.vector) if n.startswith(f"{name}, ")]
        mine = weight[:, columns].sum(axis=1)
        told = {str(s): float(mine[owners == s].sum()) for s in dict.fromkeys(owners)}
        if course.get(name, 0.0) > 0.0:
            told[COURSE] = told.get(COURSE, 0.0) + float(course[name])
        total = sum(told.values())
        by_study = {s: w / total for s, w in told.items()} if total > 0 else {}
        top = sorted(by_study, key=lambda s: -by_study[s])[:MOST_SOURCES]
        contraction = float(1.0 - z[:, k].std())
        shift = float(np.median(z[:, k]))
        out[name] = {
            "contraction": contraction,
            "shift": shift,
            "verdict": _verdict(contraction, shift),
            "sources": [s for s in top if by_study[s] > 0.05],
        }
    return out


def _verdict(contraction: float, shift: float) -> str:
    if contraction >= IDENTIFIED:
        return "identified"
    if contraction >= INFORMED:
        return "weakly identified"
    # A parameter may move without becoming narrower: the data then speak against the prior's centre.
    return "moved, hardly narrowed" if abs(shift) > 0.5 else "by the prior alone"
