"""What the experiments of the lessons show at the settings with which they open: the numbers that the answers quote.

A number is one value, or median and ends of the 90 % band over draws of the posterior. Nothing here is typed by hand.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import lru_cache
from threading import Lock

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from mscrenal.app.page.explore import shipped_draws
from mscrenal.app.page.lesson_experiments import (
    ACTION_READ,
    FACTOR,
    MEMORY_DAYS,
    SCHEDULE_DAYS,
    SIMULATE,
    TRIAL_N,
    TRIAL_PARTS,
    ArmsOfAction,
    Controls,
    EarlyMarker,
    Found,
    Memory,
    Schedule,
    Translation,
    chance,
    correlation,
    early_effects,
    early_patients,
    factor_draws,
    half_day,
    joined,
    lost,
    readings,
    share_error,
    simulated_trials,
    winners,
)
from mscrenal.model import ARMS_OF_ACTION
from mscrenal.model.definition import sampled_parameters

__all__ = ["Numbers", "band", "findings", "said", "whole"]

Array = NDArray[np.float64]
# A value; a share with its Monte-Carlo error; or a median with the ends of its band.
Number = float | tuple[float, float] | tuple[float, float, float]
Numbers = dict[str, Number]
BOOTSTRAPS = 200
LONG_RUN = 200  # times that chance is drawn in each world, for shares in the long run

_kept: dict[tuple[str, str], Found] = {}
_lock = Lock()
MOST_KEPT = 24


def kept(key: str, controls: Controls) -> Found | None:
    """All draws of an experiment, if they were computed lately."""
    with _lock:
        return _kept.get((key, controls.simulated()))


def keep(key: str, controls: Controls, found: Found) -> None:
    """Keep all draws of an experiment; the oldest make room."""
    with _lock:
        _kept[key, controls.simulated()] = found
        while len(_kept) > MOST_KEPT:
            _kept.pop(next(iter(_kept)))


def whole(key: str, controls: Controls) -> Found:
    """An experiment over all draws behind the page's bands."""
    found = kept(key, controls)
    if found is None:
        found = SIMULATE[key](controls, list(shipped_draws()))
        keep(key, controls, found)
    return found


def band(values: Array) -> tuple[float, float, float]:
    """Median and ends of the 90 % band of the draws that ended well."""
    fine = values[~np.isnan(values)]
    low, mid, high = np.quantile(
        fine, [0.05, 0.5, 0.95], method="inverted_cdf" if np.isinf(fine).any() else "linear"
    )
    return float(mid), float(low), float(high)


def said(value: Number) -> str:
    """A number with two significant digits (from 100 to 999 whole), with its error, or a median with its band.

    >>> said((-5.23, -31.9, -0.49))
    '−5.2 (−32 to −0.49)'
    >>> said((61.7, 4.9))
    '62 ± 5'
    >>> said(118.4), said(18342.0)
    ('118', '18,000')
    """
    if isinstance(value, tuple):
        first, *rest = (said(v) for v in value)
        if len(rest) == 2:
            return f"{first} ({rest[0]} to {rest[1]})"
        # An error has the decimals of its value.
        decimals = len(first.partition(".")[2])
        return f"{first} ± {value[1]:.{decimals}f}"
    if math.isinf(value):
        return "beyond the end"
    if value == 0:
        return "0"
    if abs(value) < 5e-4:
        return "0.000"
    digits = 0 if 100 <= abs(value) < 1000 else 1 - math.floor(math.log10(abs(value)))
    rounded = round(value, digits)
    return f"{rounded:,.{max(0, digits)}f}".replace("-", "\N{MINUS SIGN}")


def _memory() -> Numbers:
    runs = {m: whole("memory", Memory(memory=m)) for m in ("estimated", "off", "week", "quarter")}
    half = {m: half_day(MEMORY_DAYS, r["change"]) for m, r in runs.items()}
    main, off = runs["estimated"], runs["off"]
    living = main["organs"].sum(axis=2)
    gone = np.array([_gone(row) for row in living])
    il6 = whole("memory", Memory(memory="off", read="il6_serum"))["change"]
    return {
        "gone": band(gone),
        "peak": band(main["change"].min(axis=1)),
        "peak_day": band(MEMORY_DAYS[main["change"].argmin(axis=1)]),
        "half": band(half["estimated"]),
        "outlives": float(np.mean(half["estimated"] > gone)),
        "off_peak": band(off["change"].min(axis=1)),
        "off_share": band(100 * off["change"].min(axis=1) / main["change"].min(axis=1)),
        "half_off": band(half["off"]),
        "half_week": band(half["week"]),
        "half_quarter": band(half["quarter"]),
        "il6_half_off": band(half_day(MEMORY_DAYS, il6)),
    }


def _gone(living: Array) -> float:
    top = int(np.argmax(living))
    return float(MEMORY_DAYS[top + int(np.argmax(living[top:] < 0.01 * living[top]))])


def _translation() -> Numbers:
    main = whole("translation", Translation())
    one, scar = (whole("translation", Translation(factor="1", read=r)) for r in ("uacr", "fibrosis_area"))
    ten = whole("translation", Translation(dose=10.0))
    factor = factor_draws()
    posterior = band(factor)
    rat, patient = main["rat"].min(axis=1), main["patient"].min(axis=1)
    return {
        "rat": band(rat),
        "patient": band(patient),
        "ratio": band(100 * patient / rat),
        "prior": float(sampled_parameters()[FACTOR].value),
        "factor": posterior,
        "spread": posterior[2] / posterior[1],
        "one_ratio": band(100 * one["patient"].min(axis=1) / one["rat"].min(axis=1)),
        "one_fibrosis": band(100 * scar["patient"].min(axis=1) / scar["rat"].min(axis=1)),
        "ten": band(ten["patient"].min(axis=1)),
        "ten_ratio": band(100 * ten["patient"].min(axis=1) / rat),
    }


def _schedule() -> Numbers:
    found = whole("schedule", Schedule())
    wins = {
        name: [(100 * s, 100 * e) for s, e in zip(shares, errors, strict=True)]
        for name, (shares, errors) in winners(found).items()
    }
    mean = np.asarray(-np.trapezoid(found["uacr"], SCHEDULE_DAYS, axis=2))
    egfr = found["egfr"][:, :, -1]
    return {
        "win_egfr6": wins["egfr"][2],
        "win_egfr1": wins["egfr"][0],
        "win_end6": wins["end"][2],
        "win_mean1": wins["mean"][0],
        "egfr1": band(egfr[:, 0]),
        "egfr6": band(egfr[:, 2] / egfr[:, 0]),
        "split": band(mean[:, 2] / mean[:, 0]),
        "twice": band(mean[:, 3] / mean[:, 0]),
    }


def _arms() -> Numbers:
    def bars(read: str, how: str = "off", factor: str = "estimated") -> tuple[Array, Array]:
        controls = ArmsOfAction.model_validate({"read": read, "how": how, "factor": factor})
        return lost(whole("arms", controls)["effect"][:, :, ACTION_READ.index(read)], how)

    def share(read: str, arm: str) -> tuple[float, float, float]:
        return band(bars(read)[1][:, ARMS_OF_ACTION.index(arm)])

    def first(read: str) -> list[tuple[float, float]]:
        best = bars(read)[1].argmax(axis=1)
        shares = [float(np.mean(best == k)) for k in range(len(ARMS_OF_ACTION))]
        return [(100 * s, 100 * share_error(s, len(best))) for s in shares]

    out: Numbers = {
        "first_il6": first("il6_serum")[ARMS_OF_ACTION.index("immunomodulation")],
        "il6_immuno": share("il6_serum", "immunomodulation"),
        "first_fibrosis": first("fibrosis_area")[ARMS_OF_ACTION.index("antifibrotic")],
        "fibrosis_anti": share("fibrosis_area", "antifibrotic"),
        "egfr_cyto": share("egfr", "cytoprotection"),
        "egfr_angio": share("egfr", "angiogenic"),
        "egfr_immuno": share("egfr", "immunomodulation"),
        "first_egfr": max(first("egfr")),
    }
    for how in ("off", "alone"):
        out[f"sum_{how}"] = band(bars("uacr", how)[1].sum(axis=1))
        out[f"sum_{how}_one"] = band(bars("uacr", how, "1")[1].sum(axis=1))
    return out


def worlds(read: str) -> Found:
    """Truth and standard error of all trials of 19 + 19 that the engine ran for an endpoint."""
    return joined([simulated_trials(read, part) for part in range(TRIAL_PARTS)])


def _trial() -> Numbers:
    egfr, uacr = worlds("egfr_change"), worlds("uacr_percent_change")
    long = long_run(egfr, "egfr_change", TRIAL_N)
    long_uacr = long_run(uacr, "uacr_percent_change", TRIAL_N)
    width = half_width(egfr, TRIAL_N)
    truth = band(egfr["truth"])
    return {
        "hits": (long["hits"], long["error"]),
        "wrong": long["wrong"],
        "harmful_worlds": float(np.mean(egfr["truth"] <= 0)),
        "hits_uacr": (long_uacr["hits"], long_uacr["error"]),
        "exaggeration": (long["exaggeration"], long["exaggeration_error"]),
        "least": width,
        "width": width,
        "width_double": half_width(egfr, 2 * TRIAL_N),
        "truth": truth,
        "needed": TRIAL_N * (width / truth[0]) ** 2,
        "engine_hits": 100 * float(np.mean((egfr["p"] <= 0.05) & (egfr["effect"] > 0))),
    }


def half_width(found: Found, n: float) -> float:
    """Half of the 95 % interval of a trial of n an arm, at the median standard error, on the scale of the test."""
    return float(np.median(found["se"])) * math.sqrt(TRIAL_N / n) * float(stats.t.isf(0.025, 2 * n - 3))


def long_run(found: Found, read: str, n: int) -> dict[str, float]:
    """Per cent of trials significant in favour and against, exaggeration, and their Monte-Carlo errors over worlds."""
    drawn = chance(found, n, 0, LONG_RUN)
    sign = 1.0 if read == "egfr_change" else -1.0
    good = (sign * drawn["estimate"] > 0) & (drawn["significant"] > 0)
    bad = (sign * drawn["estimate"] < 0) & (drawn["significant"] > 0)
    by_world = {
        name: np.where(good, drawn[name], 0.0).reshape(LONG_RUN, -1).sum(axis=0)
        for name in ("estimate", "truth")
    }
    per_world = good.reshape(LONG_RUN, -1).mean(axis=0)
    n_worlds = len(per_world)
    again = np.random.default_rng(40).integers(n_worlds, size=(BOOTSTRAPS, n_worlds))
    with np.errstate(invalid="ignore", divide="ignore"):
        ratios = by_world["estimate"][again].sum(axis=1) / by_world["truth"][again].sum(axis=1)
    return {
        "hits": 100 * float(good.mean()),
        "error": 100 * float(per_world.std(ddof=1) / math.sqrt(n_worlds)),
        "wrong": 100 * float(bad.mean()),
        "exaggeration": float(drawn["estimate"][good].mean() / drawn["truth"][good].mean())
        if good.any()
        else math.nan,
        "exaggeration_error": float(np.nanstd(ratios)) if np.isfinite(ratios).any() else math.nan,
    }


def _early() -> Numbers:
    draws, people = whole("early", EarlyMarker())["seen"], early_patients()
    twin, start = EarlyMarker(), EarlyMarker(against="start")
    x, y = early_effects(draws, twin)
    _, year_one = early_effects(draws, EarlyMarker(year="1"))
    treated, untreated = early_effects(people, start), early_effects(people[:, :1], start)
    return {
        "rho_draws": correlation(x, y),
        "rho_patients": correlation(*early_effects(people, twin)),
        "rho_seen": correlation(*treated),
        "rho_untreated": correlation(*untreated),
        "uacr": band(x),
        "egfr": band(y),
        "egfr_one": band(year_one),
        "loss": band(readings(draws, twin)["loss"]),
    }


_FIND: Mapping[str, Callable[[], Numbers]] = {
    "memory": _memory,
    "translation": _translation,
    "schedule": _schedule,
    "arms": _arms,
    "trial": _trial,
    "early": _early,
}


@lru_cache(maxsize=len(_FIND))
def findings(key: str) -> Numbers:
    """The numbers that the answers of a lesson quote, by the names in its texts."""
    return _FIND[key]()
