"""The tab Lessons: six guided experiments, their controls, plots and answers.

What is simulated stands in `mscrenal.app.page.lesson_experiments`, the numbers of the answers in
`mscrenal.app.page.lesson_findings`, all words in `mscrenal.app.page.lesson_texts`. Here an experiment becomes plots: plain data
that the browser draws without knowing which lesson it is.
"""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from mscrenal.app.page.desk import Answer, work
from mscrenal.app.page.explore import middle, shipped_draws
from mscrenal.app.page.lesson_experiments import (
    ACTION_READ,
    EARLY_PATIENTS,
    FACTOR,
    LOGARITHMS,
    MEMORY_DAYS,
    ORGANS,
    PARTS,
    SCHEDULE_DAYS,
    SIMULATE,
    TRANSLATION_DAYS,
    TRIAL_N,
    TRIAL_PARTS,
    ArmsOfAction,
    Controls,
    EarlyMarker,
    Found,
    Memory,
    Schedule,
    SmallTrial,
    Translation,
    chance,
    correlation,
    early_effects,
    early_patients,
    factor_draws,
    joined,
    lost,
    patient,
    rat,
    simulated_trials,
    winners,
)
from mscrenal.app.page.lesson_findings import band, findings, half_width, keep, kept, long_run, said
from mscrenal.app.page.lesson_texts import GLOSSARY, LESSONS, Lesson
from mscrenal.app.page.setup import ArmSetup, Problem, Setup, problems_of
from mscrenal.app.page.trial import MOST_N
from mscrenal.model import ARMS_OF_ACTION, SPECIES
from mscrenal.model.declare import HalfNormal, nearest
from mscrenal.scenarios.run import extrapolations
from mscrenal.scenarios.style import FAINT, INK, OKABE_ITO

__all__ = ["address", "answer", "answers", "outline"]

Array = NDArray[np.float64]
Plot = dict[str, Any]

BLUE, ORANGE, GREEN, PINK, YELLOW, SKY = OKABE_ITO
DRAW_PARTS = (10, 30, 60)
TRIALS_SHOWN = 40
LARGEST_READ = 4.0  # 1e6 cells/kg in one dose: docs/limits.md, ranges
READ = {
    "uacr": "UACR",
    "il6_serum": "IL-6 in serum",
    "tnfa_kidney": "TNF-α in the kidney",
    "fibrosis_area": "Fibrosis area",
    "egfr": "eGFR",
    "egfr_change": "eGFR",
    "uacr_percent_change": "UACR",
}


# --------------------------------------------------------------------------- controls


@dataclass(frozen=True)
class Choice:
    """One of a few; `options` are values and what they are called."""

    name: str
    label: str
    options: Mapping[str, str]


@dataclass(frozen=True)
class Slider:
    """A number; its bounds are those of the experiment's field. `again`: a button that counts up instead."""

    name: str
    label: str
    unit: str
    step: float
    log: bool = False
    again: bool = False


def _reads(*names: str) -> dict[str, str]:
    return {name: READ[name] for name in names}


CONTROLS: Mapping[str, tuple[type[Controls], tuple[Choice | Slider, ...]]] = {
    "memory": (
        Memory,
        (
            Choice("read", "What is read", _reads("uacr", "il6_serum", "tnfa_kidney")),
            Choice(
                "memory",
                "Memory of the phagocytes",
                {
                    "estimated": "as estimated",
                    "off": "switched off",
                    "week": "half-life of a week",
                    "month": "half-life of four weeks",
                    "quarter": "half-life of thirteen weeks",
                },
            ),
        ),
    ),
    "translation": (
        Translation,
        (
            Choice("read", "What is read", _reads("uacr", "tnfa_kidney", "fibrosis_area")),
            Choice(
                "factor",
                "Translation factor",
                {
                    "estimated": "as estimated",
                    **{v: f"fixed at {v}" for v in ("0.03", "0.1", "0.3", "1")},
                },
            ),
            Slider("dose", "Dose, once", "million cells/kg", 0.1, log=True),
        ),
    ),
    "schedule": (
        Schedule,
        (
            Slider("total", "Cells in all", "million/kg", 0.1, log=True),
            Slider("every", "Days between infusions", "", 1),
        ),
    ),
    "arms": (
        ArmsOfAction,
        (
            Choice("read", "What is read", _reads(*ACTION_READ)),
            Choice("how", "Each arm of action is", {"off": "switched off", "alone": "left alone"}),
            Choice(
                "factor",
                "Cells act as strongly as",
                {"estimated": "estimated for people", "1": "in rodents (factor 1)"},
            ),
        ),
    ),
    "trial": (
        SmallTrial,
        (
            Choice(
                "read",
                "What is tested",
                {"egfr_change": "eGFR, change", "uacr_percent_change": "UACR, ratio"},
            ),
            Slider("n", "Patients in each arm", "", 1, log=True),
            Slider("again", "Draw again", "", 1, again=True),
        ),
    ),
    "early": (
        EarlyMarker,
        (
            Choice("week", "UACR is read at", {"12": "week 12", "24": "week 24"}),
            Choice("year", "eGFR is read at", {"1": "year 1", "2": "year 2", "3": "year 3"}),
            Choice("against", "Against", {"twin": "the untreated twin", "start": "the own first day"}),
        ),
    ),
}
KEYS = tuple(lesson.key for lesson in LESSONS)


def outline() -> Answer:
    """Titles, controls and questions, for the browser; answers come with their numbers (`answers`)."""
    return {
        "glossary": [list(pair) for pair in GLOSSARY],
        "lessons": [_outlined(number, lesson) for number, lesson in enumerate(LESSONS, start=1)],
    }


def _outlined(number: int, lesson: Lesson) -> Answer:
    model, controls = CONTROLS[lesson.key]
    return {
        "number": number,
        "key": lesson.key,
        "title": lesson.title,
        "sees": lesson.sees,
        "experiment": lesson.experiment,
        "questions": [{"ask": q.ask, "hint": q.hint} for q in lesson.questions],
        "standard": model().model_dump(),
        "controls": [
            {"name": c.name, "label": c.label, "options": [list(o) for o in c.options.items()]}
            if isinstance(c, Choice)
            else {
                "name": c.name, "label": c.label, "unit": c.unit, "step": c.step, "log": c.log, "again": c.again,
                **_bounds(model, c.name),
            }
            for c in controls
        ],
    }  # fmt: skip


def _bounds(model: type[Controls], name: str) -> dict[str, float]:
    found = {type(m).__name__: m for m in model.model_fields[name].metadata}
    return {"low": found["Ge"].ge, "high": found["Le"].le}


# --------------------------------------------------------------------------- the address


async def address(payload: Mapping[str, Any]) -> AsyncIterator[Answer]:
    """Which lesson an address asks for and how its controls stand; what is wrong with it is said and left out."""
    pairs = payload.get("pairs")
    if not isinstance(pairs, list) or not all(
        isinstance(p, list) and len(p) == 2 and all(isinstance(t, str) for t in p) for p in pairs
    ):
        raise ValueError("pairs: Allowed: a list of names and values, both text.")
    number, problems = 1, []
    for _, value in (p for p in pairs if p[0] == "lesson"):
        if value.isascii() and value.isdigit() and 1 <= int(value[:4]) <= len(LESSONS):
            number = int(value[:4])
        else:
            problems.append(
                Problem("lesson", f"given {value[:40]!r}. Allowed: 1 to {len(LESSONS)}. Shown is lesson 1.")
            )
    key = KEYS[number - 1]
    model = CONTROLS[key][0]
    values: dict[str, str] = {}
    for name, value in pairs:
        if name == "lesson":
            continue
        if name not in model.model_fields:
            problems.append(
                Problem(name[:60], f"unknown in lesson {number}.{nearest(name[:60], model.model_fields)}")
            )
            continue
        try:
            model.model_validate({name: value})
            values[name] = value
        except ValueError as error:
            problems += problems_of(error)
    yield {
        "lesson": number,
        "controls": model.model_validate(values).model_dump(),
        "problems": [p.record() for p in problems],
    }


# --------------------------------------------------------------------------- answers


async def answers(payload: Mapping[str, Any]) -> AsyncIterator[Answer]:
    """The answers of a lesson, with numbers that are computed now, at the settings with which it opens."""
    lesson = _lesson(payload)
    numbers = await work(findings, lesson.key)
    words = {name: said(value) for name, value in numbers.items()}
    yield {
        "lesson": lesson.key,
        "draws": len(shipped_draws()),
        "answers": [
            {"found": q.answer.format(**words), "data": q.data, "assumed": q.assumed, "reality": q.reality.format(**words)}
            if "{" in q.reality
            else {"found": q.answer.format(**words), "data": q.data, "assumed": q.assumed.format(**words), "reality": q.reality}
            for q in lesson.questions
        ],
    }  # fmt: skip


def _lesson(payload: Mapping[str, Any]) -> Lesson:
    key = payload.get("lesson")
    if key not in KEYS:
        raise ValueError(f"lesson: given {str(key)[:40]!r}. Allowed: {', '.join(KEYS)}.")
    return LESSONS[KEYS.index(key)]


# --------------------------------------------------------------------------- experiments


async def answer(payload: Mapping[str, Any]) -> AsyncIterator[Answer]:
    """Plots of an experiment: of the posterior's medians first, then of more and more draws.

    Parameters
    ----------
    payload : mapping
        `lesson`: its key; `controls`: the fields of its experiment.
    """
    lesson = _lesson(payload)
    key = lesson.key
    controls = CONTROLS[key][0].model_validate(payload.get("controls"))
    head = {"lesson": key, "links": _links(controls), "rests": await work(_rests)}
    if isinstance(controls, SmallTrial):
        async for plots in _trials(controls):
            yield {**head, **plots}
        return
    show: Callable[[Any, Found], Sequence[Plot]] = SHOW[key]
    drawn = list(shipped_draws())
    found = kept(key, controls)
    if found is None:
        yield {
            **head,
            "stage": "middle",
            "draws": 1,
            "of": len(drawn),
            "plots": await work(show, controls, await work(SIMULATE[key], controls, [middle()])),
        }
        done: list[Found] = []
        first = 0
        for size in DRAW_PARTS:
            # In smaller steps, so that a newer question waits for one of them only.
            for start in range(first, first + size, 10):
                done.append(await work(SIMULATE[key], controls, drawn[start : start + 10]))
            first += size
            found = joined(done)
            if first < len(drawn):
                yield {
                    **head,
                    "stage": "bands",
                    "draws": first,
                    "of": len(drawn),
                    "plots": await work(show, controls, found),
                }
        assert found is not None
        keep(key, controls, found)
    yield {
        **head,
        "stage": "done",
        "draws": len(drawn),
        "of": len(drawn),
        "plots": await work(show, controls, found),
    }


async def _trials(controls: SmallTrial) -> AsyncIterator[Answer]:
    """The fifth lesson: trials by the engine in parts, then chance, which costs nothing."""
    parts: list[Found] = []
    for part in range(TRIAL_PARTS):
        waits = part not in _ran.setdefault(controls.read, set())
        parts.append(await work(simulated_trials, controls.read, part))
        _ran[controls.read].add(part)
        last = part == TRIAL_PARTS - 1
        if waits or last:
            found = joined(parts)
            yield {
                "stage": "done" if last else "bands",
                "draws": len(found["se"]),
                "of": TRIAL_PARTS * len(parts[0]["se"]),
                "plots": _show_trial(controls, found),
            }


@cache
def _rests() -> list[str]:
    """What all six rest on: they treat the same patient with the same product."""
    return extrapolations(patient(336.0, ArmSetup()).scenario(), shipped_draws())


def _beyond(most: float) -> str:
    """A warning for doses that nobody gave."""
    if most <= LARGEST_READ:
        return ""
    return f"Extrapolated: no trial that was read gave more than about {LARGEST_READ:g} million cells/kg at once."


_ran: dict[str, set[int]] = {}


def _links(controls: Controls) -> list[Answer]:
    """Where else on the page the same set-up opens."""

    def explore(setup: Setup, label: str, view: str = "difference") -> Answer:
        pairs = [["view", view], *([n, v] for n, v in setup.pairs())]
        return {"tab": "explore", "label": label, "pairs": pairs}

    if isinstance(controls, Memory):
        return [explore(patient(336.0, ArmSetup(n=1)), "Open on Explore (memory as estimated)")]
    if isinstance(controls, Translation):
        arm = ArmSetup(dose=controls.dose, n=1)
        return [
            explore(patient(168.0, arm), "The patient on Explore"),
            explore(rat(arm), "The rat on Explore"),
        ]
    if isinstance(controls, Schedule):
        arms = [ArmSetup(dose=controls.total / n, n=n, every=controls.every) for n in PARTS]
        return [explore(patient(336.0, *arms), "Open the three schedules on Explore")]
    if isinstance(controls, ArmsOfAction):
        off = [
            ArmSetup(off=(a,)) for a in ("immunomodulation", "cytoprotection", "antifibrotic", "angiogenic")
        ]
        return [explore(patient(168.0, *off), "Four of the knock-outs on Explore")]
    if isinstance(controls, SmallTrial):
        pairs = [["scenario", "uc-dn-weekly"], ["endpoint", controls.read]]
        if controls.n <= MOST_N:
            pairs.append(["n", str(controls.n)])
        return [{"tab": "trial", "label": "Plan such a trial on Trial, with its power curve", "pairs": pairs}]
    return [explore(patient(3 * 365.25, ArmSetup()), "Open three years on Explore", "values")]


# --------------------------------------------------------------------------- plots


def _short(values: Any) -> list[float | None]:
    """Four significant digits; what is not finite becomes null."""
    return [float(f"{v:.4g}") if math.isfinite(v) else None for v in np.asarray(values, dtype=float).ravel()]


def _quantiles(values: Array) -> dict[str, list[float | None]]:
    """Median and, of several draws, the ends of the 90 % band, over the first axis."""
    fine = values[~np.isnan(values).any(axis=tuple(range(1, values.ndim)))]
    if not len(fine):
        return {"mid": [None] * int(np.prod(values.shape[1:]))}
    low, mid, high = np.quantile(fine, [0.05, 0.5, 0.95], axis=0)
    several = {"low": _short(low), "high": _short(high)} if len(fine) > 1 else {}
    return {"mid": _short(mid), **several}


def _line(
    name: str, x: Array, values: Array, colour: str, dash: str = "solid", least: float | None = None
) -> Plot:
    found = _quantiles(values)
    if least is not None:  # a logarithmic axis has no zero
        found["mid"] = [v if v is not None and v >= least else None for v in found["mid"]]
        for end in ("low", "high"):
            if end in found:
                found[end] = [None if v is None else max(v, least) for v in found[end]]
    return {"kind": "line", "name": name, "x": _short(x), "colour": colour, "dash": dash, **found}


def _text(values: Array) -> str:
    fine = values[np.isfinite(values)]
    if not len(fine):
        return "–"
    return said(band(fine)) if len(fine) > 1 else said(float(fine[0]))


def _at(days: Array, values: Array, wanted: Sequence[float]) -> list[str]:
    return [_text(values[:, int(np.argmin(np.abs(days - day)))]) for day in wanted]


def _show_memory(controls: Memory, found: Found) -> list[Plot]:
    weeks = MEMORY_DAYS / 7
    organs = [
        _line(o.capitalize(), weeks, found["organs"][:, :, k], colour, dash, 1.0)
        for k, (o, colour, dash) in enumerate(
            zip(ORGANS, (SKY, YELLOW, BLUE, ORANGE), ("solid", "dash", "dashdot", "dot"), strict=True)
        )
    ]
    taught = _line("Reprogrammed phagocytes", weeks, found["taught"], PINK, "longdash", 1.0)
    name = READ[controls.read]
    days = [1.0, 7.0, 14.0, 28.0, 84.0, 168.0, 336.0]
    rows = [
        ["Living cells, all organs, per kg", *_at(MEMORY_DAYS, found["organs"].sum(axis=2), days)],
        ["Reprogrammed phagocytes, as cells taken up per kg", *_at(MEMORY_DAYS, found["taught"], days)],
        [f"{name}, change against the twin, %", *_at(MEMORY_DAYS, found["change"], days)],
    ]
    if controls.memory == "off":
        taught["name"] = "Reprogrammed phagocytes (without effect)"
    x = {"title": "Weeks from the infusion", "range": [0, 48]}
    return [
        {
            "id": "cells",
            "title": "Where the cells are, and who took them up",
            "x": {"title": x["title"], "range": [0, 12]},  # beyond, only the straight line goes on
            "y": {
                "title": "Cells/kg",
                "type": "log",
                "dtick": 1,
                "exponentformat": "power",
                "range": [0, 6.3],
            },
            "traces": [*organs, taught],
            "words": f"Cells per kg over 12 weeks, logarithmic. Living cells, day 1: {rows[0][1]}; day 28: {rows[0][4]}. "
            f"Reprogrammed phagocytes, day 28: {rows[1][4]}.",
            "table": {
                "caption": "Median and 90 % band over draws",
                "heads": ["What", *(f"day {d:g}" for d in days)],
                "rows": rows,
            },
        },
        {
            "id": "effect",
            "title": f"What they did: {name}",
            "x": x,
            "y": {"title": f"{name}, % against the twin"},
            "traces": [_line(name, weeks, found["change"], INK)],
            "words": f"Change of {name} against the untreated twin in per cent over 48 weeks; day 28: {rows[2][4]}, day 168: "
            f"{rows[2][6]}, day 336: {rows[2][7]}.",
        },
    ]


def _show_translation(controls: Translation, found: Found) -> list[Plot]:
    name = READ[controls.read]
    weeks = TRANSLATION_DAYS / 7
    days = [7.0, 28.0, 56.0, 84.0, 168.0]
    rows = [
        [who.capitalize(), _text(found[who].min(axis=1)), *_at(TRANSLATION_DAYS, found[who], days)]
        for who in ("rat", "patient")
    ]
    factor = factor_draws()
    edges = np.linspace(0, 1.5, 31)
    share, _ = np.histogram(factor, edges)
    prior = next(p.prior for p in SPECIES["human"].sets if f"species.human.{p.name}" == FACTOR)
    assert isinstance(prior, HalfNormal)
    grid = np.linspace(0, 1.5, 61)
    # Per cent of draws in a bin of the histogram, so that line and bars have one axis.
    expected = 100 * stats.halfnorm.pdf(grid, scale=prior.scale) * float(edges[1] - edges[0])
    before = stats.halfnorm.ppf([0.05, 0.5, 0.95], scale=prior.scale)
    fixed = [] if controls.factor == "estimated" else [float(controls.factor)]
    return [
        {
            "id": "effect",
            "note": _beyond(controls.dose),
            "title": f"{name} in rat and patient, the same dose per kg",
            "x": {"title": "Weeks from the infusion", "range": [0, 24]},
            "y": {"title": f"{name}, % against the twin"},
            "traces": [
                _line("Rat", weeks, found["rat"], ORANGE, "dash"),
                _line("Patient", weeks, found["patient"], BLUE),
            ],
            "words": f"Change of {name} in per cent against the untreated twin over 24 weeks. Largest fall: rat {rows[0][1]}, "
            f"patient {rows[1][1]}.",
            "table": {
                "caption": f"{name}, % against the untreated twin: median and 90 % band over draws",
                "heads": ["Who", "largest fall", *(f"week {d / 7:g}" for d in days)],
                "rows": rows,
            },
        },
        {
            "id": "factor",
            "title": "What is known of the translation factor",
            "x": {"title": "Translation factor (0: nothing, 1: as in rodents)", "range": [0, 1.5]},
            "y": {"title": "% of draws", "rangemode": "tozero"},
            "traces": [
                {"kind": "bars", "name": "After the trials (posterior)", "x": _short((edges[1:] + edges[:-1]) / 2), "mid": _short(100 * share / len(factor)), "colour": BLUE, "width": 0.046},
                {"kind": "line", "name": "Before (prior)", "x": _short(grid), "mid": _short(expected), "colour": INK, "dash": "dash"},
                *({"kind": "upright", "name": "fixed", "x": [v], "colour": ORANGE} for v in fixed),
            ],
            "words": f"Distribution of the translation factor: posterior {said(band(factor))}, prior {said((before[1], before[0], before[2]))}.",
            "table": {
                "caption": "Translation factor: median and 90 % band",
                "heads": ["When", "Factor", "Below 0.1, %", "Above 0.5, %"],
                "rows": [
                    ["Before the trials (prior)", said((before[1], before[0], before[2])), *(f"{100 * p:.0f}" for p in (stats.halfnorm.cdf(0.1, scale=prior.scale), stats.halfnorm.sf(0.5, scale=prior.scale)))],
                    ["After them (posterior, 1000 draws)", said(band(factor)), f"{100 * np.mean(factor < 0.1):.0f}", f"{100 * np.mean(factor > 0.5):.0f}"],
                ],
            },
        },
    ]  # fmt: skip


SCHEDULES = ("once", "in three", "in six")


def _show_schedule(controls: Schedule, found: Found) -> list[Plot]:
    weeks = SCHEDULE_DAYS / 7
    change = 100 * (np.exp(found["uacr"]) - 1)
    looks = ((INK, "solid"), (BLUE, "dash"), (ORANGE, "dashdot"))
    mean = 100 * (np.exp(np.trapezoid(found["uacr"], SCHEDULE_DAYS, axis=2) / SCHEDULE_DAYS[-1]) - 1)
    wins = winners(found)
    rows = [
        [
            f"{controls.total:g} million/kg {name}",
            _text(found["egfr"][:, k, -1]),
            _text(change[:, k, -1]),
            _text(mean[:, k]),
        ]
        for k, name in enumerate(SCHEDULES)
    ]
    rows.append(
        [
            f"{2 * controls.total:g} million/kg once",
            _text(found["egfr"][:, 3, -1]),
            _text(change[:, 3, -1]),
            _text(mean[:, 3]),
        ]
    )
    several = len(change) > 1
    labels = {"egfr": "eGFR, week 48", "end": "UACR, week 48", "mean": "UACR, mean of 48 weeks"}
    bars = [
        {"kind": "bars", "name": name, "x": list(labels.values()), "mid": _short([100 * wins[m][0][k] for m in labels]), "error": _short([100 * wins[m][1][k] for m in labels]), "colour": looks[k][0], "pattern": ("", "/", "x")[k]}
        for k, name in enumerate(SCHEDULES)
    ]  # fmt: skip
    told = "; ".join(
        f"{label}: " + ", ".join(f"{name} {100 * wins[m][0][k]:.0f}" for k, name in enumerate(SCHEDULES))
        for m, label in labels.items()
    )
    return [
        {
            "id": "course",
            "note": _beyond(controls.total),
            "title": "UACR, the same cells once, in three, in six",
            "x": {"title": "Weeks from the first infusion", "range": [0, 48]},
            "y": {"title": "UACR, % against the twin"},
            "traces": [
                _line(name, weeks, change[:, k], *looks[k]) for k, name in enumerate(SCHEDULES)
            ],
            "words": "Change of UACR in per cent against the untreated twin over 48 weeks. At the end: "
            + "; ".join(f"{name} {rows[k][2]}" for k, name in enumerate(SCHEDULES)) + ".",
            "table": {
                "caption": "Effects against no cells: median and 90 % band over draws",
                "heads": ["Schedule", "eGFR, week 48, mL/min/1.73 m²", "UACR, week 48, %", "UACR, mean of 48 weeks, %"],
                "rows": rows,
            },
        },
        {
            "id": "wins",
            "title": "Which does best, in how many draws",
            "x": {"title": "Read as", "automargin": True},
            "y": {"title": "% of draws", "range": [0, 109]},
            "traces": bars if several else [],
            "words": f"Per cent of draws in which each schedule does best. {told}." if several else "Draws follow.",
            "table": {
                "caption": "Per cent of draws in which a schedule does best ± Monte-Carlo error",
                "heads": ["Schedule", *labels.values()],
                "rows": [
                    [name, *(f"{100 * wins[m][0][k]:.0f} ± {100 * wins[m][1][k]:.0f}" for m in labels)]
                    for k, name in enumerate(SCHEDULES)
                ],
            } if several else None,
        },
    ]  # fmt: skip


def _show_arms(controls: ArmsOfAction, found: Found) -> list[Plot]:
    effect = found["effect"][:, :, ACTION_READ.index(controls.read)]
    each, share = lost(effect, controls.how)
    good = -1.0 if controls.read != "egfr" else 1.0
    unit = {"egfr": "mL/min/1.73 m²", "fibrosis_area": "percentage points"}.get(controls.read, "log ratio")
    name = READ[controls.read]
    whole = effect[:, 0]
    whole_told = 100 * (np.exp(whole) - 1) if controls.read in LOGARITHMS else whole
    words = "lost without it" if controls.how == "off" else "there with it alone"
    total = share.sum(axis=1)
    quantiles = _quantiles(share)
    rows = [[arm, _text(share[:, k]), _text(good * each[:, k])] for k, arm in enumerate(ARMS_OF_ACTION)]
    rows.append(["the six added", _text(total), _text(good * each.sum(axis=1))])
    rows.append(["all arms at work", "100", _text(good * whole)])
    size = np.abs(whole_told)
    sizes = {"egfr": "gain of eGFR, mL/min/1.73 m²", "fibrosis_area": "fall of the fibrosis area, points"}
    # Shares of an effect near zero have no end: the plot ends where nine draws of ten lie.
    ends = [v for k in ("mid", "low", "high") for v in quantiles.get(k, []) if v is not None]
    return [
        {
            "id": "bars",
            "title": f"{name}: share of the effect that is {words}",
            "x": {"title": "% of the whole effect", "range": [min(0.0, 1.08 * min(ends)), max(60.0, 1.08 * max(ends))]},
            "y": {"title": "", "automargin": True, "autorange": "reversed"},
            "traces": [{"kind": "sideways", "name": words, "y": list(ARMS_OF_ACTION), "colour": SKY, **quantiles}],
            "words": f"Share of the effect on {name} that is {words}, per cent: "
            + "; ".join(f"{r[0]} {r[1]}" for r in rows[:6]) + ".",
            "table": {
                "caption": f"{name} at week 24, effect {words}: median and 90 % band over draws; the whole effect is "
                f"{_text(whole_told)}{' %' if controls.read in LOGARITHMS else f' {unit}'}",
                "heads": ["Arm of action", "% of the whole effect", f"benefit, {unit}"],
                "rows": rows,
            },
        },
        {
            "id": "sum",
            "title": "The six bars added, draw by draw",
            "x": {"title": f"Whole effect: {sizes.get(controls.read, f'change of {name}, %')}", "type": "log", "exponentformat": "none", "dtick": 1},
            "y": {"title": "Sum, % of the whole effect", "rangemode": "tozero"},
            "traces": [
                {"kind": "points", "name": "one draw", "x": _short(size), "y": _short(total), "colour": BLUE},
                {"kind": "level", "name": "additive: 100 %", "y": [100.0], "colour": FAINT},
            ],
            "words": f"Sum of the six over the whole effect, per cent: {_text(total)}. Additive would be 100.",
        },
    ]  # fmt: skip


def _show_trial(controls: SmallTrial, found: Found) -> list[Plot]:
    egfr = controls.read == "egfr_change"
    sign = 1.0 if egfr else -1.0
    n = controls.n
    drawn = chance(found, n, controls.again)
    limit = float(stats.t.isf(0.025, 2 * n - 3))
    k = min(TRIALS_SHOWN, len(drawn["se"]))
    # Which worlds are seen changes with the draw, too.
    some = np.random.default_rng([39, controls.again]).permutation(len(drawn["se"]))[:k]
    order = some[np.argsort(drawn["estimate"][some])]
    mid, half, truth = drawn["estimate"][order], limit * drawn["se"][order], drawn["truth"][order]
    low, high = mid - half, mid + half
    if not egfr:
        mid, low, high, truth = (100 * (np.exp(v) - 1) for v in (mid, low, high, truth))
    hit = (drawn["significant"][order] > 0) & (sign * drawn["estimate"][order] > 0)
    bad = (drawn["significant"][order] > 0) & ~hit
    what = "eGFR, mL/min/1.73 m² against placebo" if egfr else "UACR, % against placebo"
    long = long_run(found, controls.read, n)
    sizes = np.geomspace(8, 2000, 40)
    widths = np.array([half_width(found, s) for s in sizes])
    here = half_width(found, n)
    true_size = np.abs(found["truth"])
    middle_true, low_true, high_true = band(true_size)
    unit = "mL/min/1.73 m²" if egfr else "log UACR"
    exaggeration = "–" if math.isnan(long["exaggeration"]) else f"{long['exaggeration']:.2g} times"
    rows = [
        ["Significant in favour, %", f"{long['hits']:.1f} ± {long['error']:.1f}"],
        ["Significant against, %", f"{long['wrong']:.1f}"],
        ["Significant trials exaggerate (mean estimate over mean truth)", exaggeration],
        [f"Half-width of the 95 % interval, {unit}", said(here)],
        [
            f"Size of the true effect, {unit}: median and 90 % of worlds",
            said((middle_true, low_true, high_true)),
        ],
    ]
    if n == TRIAL_N:
        share = (found["p"] <= 0.05) & (sign * found["effect"] > 0)
        error = math.sqrt(max(share.mean() * (1 - share.mean()), 0.25 / len(share)) / len(share))
        rows.append(
            [
                f"The engine's own {len(share)} trials, significant in favour, %",
                f"{100 * share.mean():.0f} ± {100 * error:.0f}",
            ]
        )
    return [
        {
            "id": "trials",
            "title": f"{k} trials of {n} + {n} patients",
            "x": {"title": what, **({} if egfr else {"range": [-80, 150]})},
            "y": {"title": "Trials, by their estimate", "showticklabels": False, "range": [-1, k]},
            "traces": [
                {"kind": "intervals", "name": "not significant", "x": _short(mid), "low": _short(low), "high": _short(high), "pick": [int(i) for i in np.flatnonzero(~hit & ~bad)], "colour": FAINT, "open": True},
                {"kind": "intervals", "name": "significant in favour", "x": _short(mid), "low": _short(low), "high": _short(high), "pick": [int(i) for i in np.flatnonzero(hit)], "colour": BLUE},
                {"kind": "intervals", "name": "significant against", "x": _short(mid), "low": _short(low), "high": _short(high), "pick": [int(i) for i in np.flatnonzero(bad)], "colour": ORANGE, "symbol": "diamond"},
                {"kind": "ticks", "name": "true effect of the trial's world", "x": _short(truth), "colour": INK},
                {"kind": "upright", "name": "no effect", "x": [0.0], "colour": FAINT},
            ],
            "words": f"{k} trials of {n} patients in each arm: {int(hit.sum())} significant in favour of cells, {int(bad.sum())} against. "
            f"In the long run {long['hits']:.1f} per cent are in favour.",
            "note": f"Here {int(hit.sum())} of {k} are significant in favour, {int(bad.sum())} against; in the long run "
            f"{long['hits']:.1f} % (± {long['error']:.1f}, Monte-Carlo error) and {long['wrong']:.1f} %. Significant trials in favour: "
            f"{exaggeration} the true effect.",
            "table": {"caption": f"Trials of {n} + {n} in the long run. Worlds and standard errors are those of {len(found['se'])} trials of 19 + 19 by the package's engine; chance is drawn anew from a normal distribution, other sizes by the root of the number of patients.", "heads": ["What", "Value"], "rows": rows},
        },
        {
            "id": "width",
            "title": "How wide the 95 % interval is, by size",
            "x": {"title": "Patients in each arm", "type": "log", "exponentformat": "none", "dtick": 1},
            "y": {"title": f"Half-width, {unit}", "type": "log", "exponentformat": "none", "dtick": 1},
            "traces": [
                {"kind": "line", "name": "size of the true effect (median, 90 % of worlds)", "x": [8.0, 2000.0], "mid": _short([middle_true] * 2), "low": _short([low_true] * 2), "high": _short([high_true] * 2), "colour": BLUE, "dash": "dash"},
                {"kind": "line", "name": "half-width of the interval", "x": _short(sizes), "mid": _short(widths), "colour": INK, "dash": "solid"},
                {"kind": "points", "name": f"{n} in each arm", "x": [float(n)], "y": _short([here]), "colour": ORANGE, "size": 12},
            ],
            "words": f"Half-width of the 95 per cent interval by patients in each arm, both logarithmic; at {n}: {said(here)} {unit}. "
            f"Size of the true effect: {said((middle_true, low_true, high_true))}.",
        },
    ]  # fmt: skip


def _show_early(controls: EarlyMarker, found: Found) -> list[Plot]:
    draws, people = found["seen"], early_patients()
    start = controls.against == "start"
    against = "the first day" if start else "the twin"
    x = {"title": f"Δ UACR at week {controls.week}, %"}
    y = {"title": f"Δ eGFR at year {controls.year}, mL/min/1.73 m²"}
    plots, rows = [], []
    for name, seen, one in (("draws", draws, "one draw"), ("patients", people, "one patient")):
        early, late = early_effects(seen, controls)
        several = len(early) > 3
        rho = said(correlation(early, late)) if several else "–"
        traces: list[Plot] = [
            {
                "kind": "points",
                "name": f"{one}, treated",
                "x": _short(early),
                "y": _short(late),
                "colour": BLUE,
            }
        ]
        rows.append([f"{name.capitalize()}, treated", rho, _text(early), _text(late)])
        if start:
            early, late = early_effects(seen[:, :1], controls)
            rows.append(
                [
                    f"{name.capitalize()}, untreated",
                    said(correlation(early, late)) if several else "–",
                    _text(early),
                    _text(late),
                ]
            )
            traces.insert(
                0,
                {
                    "kind": "points",
                    "name": f"{one}, untreated",
                    "x": _short(early),
                    "y": _short(late),
                    "colour": FAINT,
                    "open": True,
                },
            )
        title = (
            "Across draws: one typical patient"
            if name == "draws"
            else f"Across {EARLY_PATIENTS} patients: one world"
        )
        plots.append(
            {
                "id": name, "title": title, "x": x, "y": y, "traces": traces,
                "note": f"Rank correlation of the treated: {rho}" + (f"; of the untreated: {rows[-1][1]}" if start else "") + ".",
                "words": f"{title}: UACR at week {controls.week} against eGFR at year {controls.year}, each point {one}; rank correlation {rho}.",
            }
        )  # fmt: skip
    plots[0]["table"] = {
        "caption": f"Spearman's rank correlation with its 90 % interval, and medians with 90 % of draws or patients, against {against}",
        "heads": ["What varies", "Rank correlation", x["title"], y["title"]],
        "rows": rows,
    }
    return plots


SHOW: Mapping[str, Callable[[Any, Found], Sequence[Plot]]] = {
    "memory": _show_memory,
    "translation": _show_translation,
    "schedule": _show_schedule,
    "arms": _show_arms,
    "early": _show_early,
}
