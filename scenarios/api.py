"""The functions behind the commands: compare, simulate, explain."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path

import numpy as np

from mscrenal.calibration import Draws
from mscrenal.model import ARMS_OF_ACTION
from mscrenal.scenarios.endpoints import endpoint as endpoint_of
from mscrenal.scenarios.endpoints import evaluate
from mscrenal.scenarios.gallery import load_scenario
from mscrenal.scenarios.results import (
    CompareResult,
    ExplainResult,
    SimulateResult,
    compare_result,
    explain_result,
    simulate_result,
)
from mscrenal.scenarios.run import Progress, RunError, coalition_runs, output_days, run
from mscrenal.scenarios.scenario import Scenario
from mscrenal.scenarios.sources import Source

__all__ = ["compare", "explain", "simulate"]


def compare(
    scenario: str | Path | Scenario = "uc-dn-weekly",
    *,
    draws: int | Draws = 100,
    seed: int = 1,
    source: Source = "posterior",
    workers: int | None = None,
    cluster: str | None = None,
    patients: int | None = None,
    progress: Progress | None = None,
) -> CompareResult:
    """Set the arms of a scenario side by side, with uncertainty.

    Parameters
    ----------
    scenario : str, path or Scenario
        A name of the gallery, a TOML file, an event table, or a scenario.
    draws : int or Draws
        Parameter draws behind the bands.
    seed : int
    source : {'posterior', 'prior'}, path or Posterior
        Where a number of draws comes from: the posterior that ships, the priors, or a posterior of one's own.
    workers : int, optional
        Threads on this machine; by default one per processor.
    cluster : str, optional
        Instead of threads: ``tcp://HOST:PORT`` of a dask.distributed scheduler, or its scheduler file.
    patients : int, optional
        Size of the virtual population; default: the scenario's.
    progress : callable, optional
        Called with units done, all units, and a word.

    Returns
    -------
    CompareResult
        `.table`, `.data`, `.plot()`, `.save(folder)`, `.to_json()`.

    Examples
    --------
    >>> from mscrenal.scenarios import compare
    >>> result = compare("uc-dn-weekly", draws=20)        # doctest: +SKIP
    >>> result.save("my-comparison")                      # doctest: +SKIP
    """
    return compare_result(
        run(
            load_scenario(scenario),
            draws=draws,
            seed=seed,
            source=source,
            workers=workers,
            cluster=cluster,
            patients=patients,
            progress=progress,
        )
    )


def simulate(
    scenario: str | Path | Scenario,
    *,
    draws: int | Draws = 100,
    seed: int = 1,
    source: Source = "posterior",
    workers: int | None = None,
    cluster: str | None = None,
    patients: int | None = None,
    progress: Progress | None = None,
) -> SimulateResult:
    """Trajectories of every observable in every arm, with bands. Parameters as in `compare`."""
    return simulate_result(
        run(
            load_scenario(scenario),
            draws=draws,
            seed=seed,
            source=source,
            workers=workers,
            cluster=cluster,
            patients=patients,
            progress=progress,
        )
    )


def explain(
    scenario: str | Path | Scenario,
    *,
    arm: str | None = None,
    endpoint: str | None = None,
    draws: int | Draws = 50,
    seed: int = 1,
    source: Source = "posterior",
    workers: int | None = None,
    cluster: str | None = None,
    patients: int | None = None,
    progress: Progress | None = None,
) -> ExplainResult:
    """How much of an arm's benefit each of the six arms of action carries (Shapley over knock-outs).

    Parameters
    ----------
    arm : str, optional
        The arm to explain; default: the first with a dose.
    endpoint : str, optional
        Default: the scenario's first.
    draws, seed, source, workers, cluster, patients, progress
        As in `compare`. Each draw costs 64 simulations of the arm.

    Raises
    ------
    RunError
        If no arm of the scenario gives a dose, or the one named gives none.
    """
    given = load_scenario(scenario)
    dosed = [a.name for a in given.arms if a.n_doses and a.name != given.reference]
    if not dosed:
        raise RunError(
            f"scenario {given.name!r} has no arm with a dose beside the reference: there is nothing to explain."
        )
    chosen = arm or dosed[0]
    if chosen not in dosed:
        given.arm(chosen)
        raise RunError(
            f"arm {chosen!r} gives no dose beside the reference. Arms with doses: {', '.join(dosed)}."
        )
    wanted = endpoint_of(endpoint or given.endpoints[0])
    coalitions = [
        frozenset(c) for size in range(len(ARMS_OF_ACTION) + 1) for c in combinations(ARMS_OF_ACTION, size)
    ]
    knock_outs = [tuple(a for a in ARMS_OF_ACTION if a not in c) for c in coalitions]
    days = output_days(given, dense=False)
    treated, reference, failures, provenance = coalition_runs(
        given,
        chosen,
        knock_outs,
        draws=draws,
        seed=seed,
        source=source,
        workers=workers,
        cluster=cluster,
        patients=patients,
        observable=wanted.observable,
        days=days,
        progress=progress,
    )

    def per_draw(values: np.ndarray) -> np.ndarray:
        found = evaluate(
            wanted.name, values, days, horizon_days=float(given.horizon_days), visits=given.visits
        )
        return np.asarray(np.mean(found.values, axis=-1))

    return explain_result(
        given,
        arm=chosen,
        endpoint_name=wanted.name,
        coalitions={c: per_draw(treated[i]) for i, c in enumerate(coalitions)},
        reference=per_draw(reference),
        provenance=provenance,
        failures=failures,
    )
