"""What a result says, in sentences: the answer that stands at the top of its report.

Each number comes with its band, each sentence says no more than the draws do. The sentences are written from the
result's own records, which are those of its JSON document.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from mscrenal.app.console import MAIN_OBSERVABLES, decimals_for, number
from mscrenal.scenarios.results import TIE, summarise

__all__ = ["answer", "moment", "question"]

FEW_DRAWS = 50  # below it the 5 % and 95 % quantiles rest on two draws at most
MOST_ENDPOINTS = 4  # told in words; the tables have all


def answer(result: Any) -> list[str]:
    """The answer to a result's question, a few sentences each.

    Returns
    -------
    list of str
        Paragraphs; never empty.
    """
    makers: dict[str, Callable[[Any], list[str]]] = {
        "compare": _compare, "simulate": _simulate, "population": _population, "explain": _explain,
        "sensitivity": _sensitivity, "trial": _trial, "optimise": _optimise, "facts": _facts, "validate": _validate,
        "posterior": _posterior, "calibrate": _posterior, "verify": _verify, "scenarios": _scenarios,
    }  # fmt: skip
    said = makers[result.command](result)
    n_failed = getattr(result, "n_failed", len(result.failures))
    if n_failed:
        said.append(f"{n_failed:,} simulated subjects failed and are left out of every number.")
    return said


def question(result: Any) -> str:
    """The question that the result answers: its own, or where it carries its scenario's, that of the command."""
    if result.command == "trial":
        first = result.comparisons[0]
        size = f"{first.n_arm} + {first.n_reference} patients"
        arms = " or ".join(c.arm for c in result.comparisons)
        return (
            f"How probable is it that a trial of {size} shows {arms} to be better than {result.reference} in "
            f"{result.endpoint.label}, and what could it see?"
        )
    if result.command == "simulate":
        arms = _listed([str(arm.name) for arm in result.scenario.arms])
        return f"How do kidney function, markers and cells go on under {arms}?"
    if result.command == "population":
        return f"How do the arms compare over {result.n_patients:,} virtual patients who differ, and how much do they differ?"
    if result.command == "compare" and not result.question:
        return "How do the arms of each scenario compare, and how sure is that?"
    return str(result.question)


# --------------------------------------------------------------------------- words


def moment(days: float) -> str:
    """A day of a scenario as one says it.

    >>> moment(336.0), moment(10.0), moment(547.875), moment(1461.0)
    ('week 48', 'day 10', 'month 18', 'year 4')
    """
    years = days / 365.25
    if years >= 2 and abs(years - round(years)) < 0.01:
        return f"year {years:.0f}"
    if days >= 14 and days % 7 == 0:
        return f"week {days / 7:.0f}"
    months = days / (365.25 / 12)
    if months >= 2 and abs(months - round(months)) < 0.001:
        return f"month {months:.0f}"
    return f"day {days:g}"


def _digits(values: Sequence[float]) -> int:
    return decimals_for([v for v in values if math.isfinite(v)][:1] or [0.0])


def _banded(
    median: float, ends: Sequence[float], unit: str, *, sign: bool = True, word: str = "90 % band "
) -> str:
    """'+0.44 mL/min (90 % band 0.03 to 2.54)', to two digits of the median."""
    places = _digits([median])
    unit = "" if unit in ("", "1") else f" {unit}"
    low, high = (number(end, places) for end in ends)
    return f"{number(median, places, sign=sign)}{unit} ({word}{low} to {high})"


def _listed(names: Sequence[str], most: int = 8) -> str:
    """'a, b and c', the many counted."""
    shown = [*names[:most], f"{len(names) - most} more"] if len(names) > most else list(names)
    return shown[0] if len(shown) == 1 else f"{', '.join(shown[:-1])} and {shown[-1]}"


def _few(n_draws: int) -> list[str]:
    if n_draws >= FEW_DRAWS:
        return []
    draws = "draw" if n_draws == 1 else "draws"
    return [f"Only {n_draws} {draws} stand behind these numbers: the ends of the bands are rough."]


# --------------------------------------------------------------------------- arms side by side


def _compare(result: Any) -> list[str]:
    parts = getattr(result, "results", None)
    if parts is None:
        return _compare_one(result)
    return [f"{part.title}: {' '.join(_compare_one(part))}" for part in parts]


def _compare_one(result: Any) -> list[str]:
    reference = result.reference
    others = [arm for arm in result.arms if not arm["is_reference"]]
    own = next(arm for arm in result.arms if arm["is_reference"])["endpoints"]
    n_draws = int(result.run.data.sizes["draw"])
    when = moment(result.scenario.horizon_days)
    defined = [item for item in _foremost(result.endpoints) if math.isfinite(own[item.name]["median"])]
    if not defined:
        return [
            "None of the endpoints is defined in this scenario: see the notes of the tables.",
            *_few(n_draws),
        ]
    first = defined[0]
    at = own[first.name]
    alone = f"{reference}: {first.label} {_banded(at['median'], at['ci90'], first.unit)} at {when}."
    if not others:
        return [alone, *_few(n_draws)]
    said = [_best_arm(result, first, others, when), f"For comparison, {alone}"]
    rest = [_short(item, others) for item in defined[1:MOST_ENDPOINTS]]
    if rest:
        said.append(f"The best medians of other endpoints against {reference}: {'; '.join(rest)}.")
    if _one_sided(first, others) and any(arm["n_doses"] for arm in others):
        said.append(
            "That a band lies on one side of zero comes from the model, which hardly lets cells do harm; it is no evidence of benefit."
        )
    return [*said, *_few(n_draws)]


def _foremost(endpoints: Sequence[Any]) -> list[Any]:
    """The first endpoint, then the clinical ones that a reader asks for, then the others as they come."""
    wanted = ("egfr_change", "uacr_percent_change", "egfr_slope_total", "fibrosis_change", "time_to_eskd")
    ranked = sorted(
        endpoints[1:], key=lambda item: wanted.index(item.name) if item.name in wanted else len(wanted)
    )
    return [*endpoints[:1], *ranked]


def _versus(arm: Mapping[str, Any], item: Any) -> Mapping[str, Any]:
    found: Mapping[str, Any] = arm["endpoints"][item.name]["vs_reference"]
    return found


def _ranked(item: Any, others: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    known = [arm for arm in others if math.isfinite(_versus(arm, item)["median"])]
    return sorted(known, key=lambda arm: _versus(arm, item)["median"], reverse=item.better == "higher")


def _best_arm(result: Any, item: Any, others: Sequence[Mapping[str, Any]], when: str) -> str:
    ranked = _ranked(item, others)
    if not ranked:
        return f"{item.label} is not defined in the other arms."
    best, versus = ranked[0], _versus(ranked[0], item)
    median = versus["median"]
    gain = median if item.better == "higher" else -median
    told = _banded(median, versus["ci90"], versus["unit"])
    if gain <= 0 or abs(median) <= TIE:
        head = f"By its median no arm does better than {result.reference} in {item.label} at {when}; the nearest is {best['name']}: {told}."
    elif len(ranked) == 1:
        head = f"At {when}, {best['name']} differs from {result.reference} in {item.label} by {told}."
    else:
        head = f"At {when}, {best['name']} does best in {item.label} by its median: {told} against {result.reference}."
    if len(ranked) == 1:
        return head
    medians = [_versus(arm, item)["median"] for arm in ranked[1:]]
    places = _digits([median])
    span = f"{number(min(medians), places, sign=True)} to {number(max(medians), places, sign=True)}"
    share = _share_best(result, item, best["name"])
    which = (
        "The other arm has a median of"
        if len(medians) == 1
        else f"The medians of the other {len(medians)} are"
    )
    span = number(medians[0], places, sign=True) if len(medians) == 1 else span
    return f"{head} {which} {span}, and {best['name']} is the best of all arms in {share:.0%} of the draws."


def _share_best(result: Any, item: Any, name: str) -> float:
    """Share of draws in which no arm does better, the reference among them; ties are shared out."""
    estimate = result.endpoint_data["estimate"].sel(endpoint=item.name).transpose("draw", "arm")
    values = np.asarray(estimate.values, dtype=float) * (1.0 if item.better == "higher" else -1.0)
    values = values[np.isfinite(values).all(axis=1)]
    if not len(values):
        return math.nan
    top = values.max(axis=1, keepdims=True)
    best = values >= top - TIE * np.maximum(1.0, np.abs(top))
    place = [str(arm) for arm in estimate["arm"].values].index(name)
    return float((best[:, place] / best.sum(axis=1)).mean())


def _short(item: Any, others: Sequence[Mapping[str, Any]]) -> str:
    ranked = _ranked(item, others)
    if not ranked:
        return f"{item.label} is not defined"
    versus = _versus(ranked[0], item)
    who = f" with {ranked[0]['name']}" if len(others) > 1 else ""
    return f"{item.label} {_banded(versus['median'], versus['ci90'], versus['unit'], word='')}{who}"


def _gains(item: Any, others: Sequence[Mapping[str, Any]]) -> tuple[float, float, float]:
    versus = _versus(_ranked(item, others)[0], item)
    low, high = versus["ci90"]
    ends = (low, versus["median"], high)
    return ends if item.better == "higher" else (-high, -versus["median"], -low)


def _one_sided(item: Any, others: Sequence[Mapping[str, Any]]) -> bool:
    """Whether the band of the best arm holds gains only."""
    return bool(_ranked(item, others)) and _gains(item, others)[0] >= 0 and _gains(item, others)[1] > 0


def _simulate(result: Any) -> list[str]:
    from mscrenal.scenarios.figures import PANELS
    from mscrenal.scenarios.style import nice_unit

    table, reference = result.table, result.reference
    end = float(table["time_day"].max())
    present = set(table["name"])
    said = []
    for name in [n for n in MAIN_OBSERVABLES if n in present][:3] or sorted(present)[:3]:
        part = table[table["name"] == name]
        unit = nice_unit(str(part["unit"].iloc[0]))
        first = part[(part["arm"] == reference) & (part["time_day"] == part["time_day"].min())].iloc[0]
        last = part[part["time_day"] == end].set_index("arm")
        places = decimals_for([float(first["q50"])], digits=3)
        mine = last.loc[reference]
        text = (
            f"{PANELS.get(name, name)}{f' [{unit}]' if unit else ''}: with {reference} from {number(first['q50'], places)} to "
            f"{number(mine['q50'], places)} (90 % band {number(mine['q05'], places)} to {number(mine['q95'], places)}) at {moment(end)}"
        )
        others = last.drop(index=reference)
        if len(others):
            low, high = (number(float(f), places) for f in (others["q50"].min(), others["q50"].max()))
            who = (
                f"the median of {others.index[0]} ends"
                if len(others) == 1
                else f"the medians of the other {len(others)} arms end"
            )
            where = f"at {low}" if low == high else f"between {low} and {high}"
            band = f"{number(float(others['q05'].min()), places)} to {number(float(others['q95'].max()), places)}"
            text += f"; {who} {where}, {'its band' if len(others) == 1 else 'their bands within'} {band}"
        said.append(f"{text}.")
    return [*said, *_few(int(result.run.data.sizes["draw"]))]


def _population(result: Any) -> list[str]:
    said = []
    own = next(arm for arm in result.arms if arm["is_reference"])["endpoints"]
    others = [arm for arm in result.arms if not arm["is_reference"]]
    for item in _foremost(result.endpoints)[:3]:
        mine = own[item.name]
        if not math.isfinite(mine["q50"]):
            continue
        text = f"{item.label} with {result.reference}: {_banded(mine['q50'], (mine['q05'], mine['q95']), item.unit, word='5 to 95 % of the patients ')}."
        known = [a for a in others if math.isfinite(a["endpoints"][item.name]["vs_reference"]["q50"])]
        if known:
            best = sorted(known, key=lambda a: _versus(a, item)["q50"], reverse=item.better == "higher")[0]
            v = _versus(best, item)
            differs = _banded(v["q50"], (v["q05"], v["q95"]), v["unit"], word="5 to 95 % of the patients ")
            few = "The other arm" if len(known) == 1 else f"Of the other {len(known)}, the best by its median"
            text += f" {few}, {best['name']}, differs from it by {differs}, patient by patient."
        said.append(text)
    n = int(result.provenance["draws"])
    said = said or ["None of the endpoints is defined in this scenario."]
    return [
        *said,
        f"The ranges hold both how patients differ and what is not known: each patient has one of {n} draws.",
    ]


# --------------------------------------------------------------------------- why


def _explain(result: Any) -> list[str]:
    total, unit = summarise(result.total), result.endpoint.difference_unit
    if not total.n:
        return ["No draw came through with every combination: there is nothing to attribute."]
    told = _banded(total.median, (total.low, total.high), unit)
    shares = {name: summarise(values) for name, values in result.shares.items()}
    order = sorted(shares, key=lambda name: -abs(shares[name].median))
    places = _digits([shares[order[0]].median])

    def one(name: str) -> str:
        s = shares[name]
        return f"{name} {number(s.median, places, sign=True)} ({number(s.low, places)} to {number(s.high, places)})"

    stacked = np.abs(np.stack([result.shares[name] for name in order]))
    whole = np.isfinite(stacked).all(axis=0)
    first = float((stacked[:, whole].argmax(axis=0) == 0).mean())
    rest = f"; {', '.join(one(name) for name in order[1:3])} follow" if len(order) > 2 else ""
    return [
        f"{result.arm} differs from {result.scenario.reference} in {result.endpoint.label} by {told}. Of that, by the medians, "
        f"{one(order[0])} carries most{rest}. {order[0].capitalize()} is the largest in {first:.0%} of the draws.",
        "It says how the model brings the effect about, not what was seen in patients.",
        *_few(total.n),
    ]


def _sensitivity(result: Any) -> list[str]:
    records = result.table.to_dict("records")
    low, high = result.study.left_out_ci

    def one(r: Mapping[str, Any]) -> str:
        return f"{r['label']}, {number(r['total'], 2)} ({number(r['total_low'], 2)} to {number(r['total_high'], 2)})"

    said = [
        f"The largest total indices (90 % interval), as shares of the variance of {result.quantity}: {'; '.join(one(r) for r in records[:3])}.",
        f"The {len(result.study.screen) - len(result.study.names)} parameters that were left at their medians carry {result.study.left_out:.0%} "
        f"({max(low, 0):.0%} to {high:.0%}) of the variance.",
    ]
    if result.blocks < 256:
        said.append(
            f"With only {result.blocks} blocks of the design the indices are rough; their intervals say how rough."
        )
    return said


# --------------------------------------------------------------------------- trials and regimens


def _trial(result: Any) -> list[str]:
    said = list(result.summary)
    trials = int(result.rows["trial"].nunique())
    if trials < 200:
        said.append(
            f"Only {trials} virtual trials were run: the ± (a standard error) can be too small where no or every trial is significant."
        )
    return said


def _optimise(result: Any) -> list[str]:
    found = result.recommended
    if found["regimen"] is None:
        return [str(found["reason"]), *_few(result.n_draws)]
    told = _banded(found["expected_gain"], found["gain"]["ci90"], result.unit)
    said = [
        f"Of {len(result.regimens)} regimens within the limits, {found['regimen']['name']} has the largest expected gain in "
        f"{result.endpoint.label} over {result.scenario.reference}: {told}. It is the best of them in {found['prob_best']:.0%} of the draws."
    ]
    if result.relevant is not None:
        said.append(
            f"The chance that it gains what matters, {result.relevant:.2g} {result.unit} or more, is {found['prob_relevant']:.0%}."
        )
    unseen = found.get("expected_gain_unseen_draws")
    if unseen is not None:
        said.append(
            f"Over the draws that had no part in choosing the shortlist its expected gain is {number(unseen, _digits([unseen]), sign=True)}."
        )
    for name, spared in found.get("sparing", {}).items():
        what = "The least burden" if name == "least_burden" else "The fewest visits"
        said.append(f"{what} within {result.margin:.0%} of the largest expected gain: {spared['name']}.")
    value = result.value_of_information[0]
    if math.isfinite(value["value"]):
        said.append(
            f"Choosing after everything unknown were known would gain {value['value']:.2g} {result.unit} more on average: "
            "that is all that any study could be worth to this choice."
        )
    return [*said, "Harm, cost and preference are no part of it.", *_few(result.n_draws)]


# --------------------------------------------------------------------------- is the model right


def _facts(result: Any) -> list[str]:
    passed = result.passed
    groups = result.by_fact
    missed = [f"{n} ({groups[n][0].fact.title})" for n, ok in passed.items() if not ok]
    counted = [r for r in result.results if r.passed is not None]
    skipped = len(result.results) - len(counted)
    set_by = sum(1 for group in groups.values() if "prior" in group[0].fact.basis)
    said = [
        f"{sum(passed.values())} of {len(passed)} facts are reproduced: every check of theirs lies within what its source allows. Of the "
        f"single checks it is {sum(bool(r.passed) for r in counted)} of {len(counted)}."
    ]
    if missed:
        said.append(f"Not reproduced: {'; '.join(missed)}.")
    if skipped:
        said.append(
            f"{skipped} {'check is' if skipped == 1 else 'checks are'} of things that are not modelled, and not counted."
        )
    if set_by:
        said.append(
            f"{set_by} of the facts were used to set priors: that the model meets them is a check of workmanship and no validation."
        )
    return said


def _validate(result: Any) -> list[str]:
    table, found = result.table, result.assessment
    if not len(table):
        return [f"None of the {result.n_rows} rows could be compared: see why below."]
    n = len(table)
    said = [
        f"{int(table['inside90'].sum())} of {n} published values ({found.coverage90:.0%}) lie inside their 90 % predictive intervals, "
        f"{int(table['inside50'].sum())} ({found.coverage50:.0%}) inside the 50 % ones."
    ]
    density = result.elpds()
    if math.isfinite(density["elpd_no_effect"]):
        gains = {
            "of a model without an effect of cells": density["elpd"] - density["elpd_no_effect"],
            "of a pooled meta-analytic effect": density["elpd"] - density["elpd_pooled"],
        }
        told = " and ".join(f"{number(v, 1, sign=True)} to that {k}" for k, v in gains.items())
        said.append(
            f"The log predictive density compares by {told}; above 0 is in favour, and differences of a few units are weak."
        )
    if n < 100:
        said.append(
            f"{n} rows are few, and rows of one study are not independent: misfits of a moderate size would not show."
        )
    fitted = int(table["fitted"].sum())
    if fitted:
        said.append(f"{fitted} of the rows were fitted: of them this is no validation.")
    return said


def _posterior(result: Any) -> list[str]:
    counts: dict[str, int] = {}
    for record in result.records:
        verdict = record.get("verdict") or "without a verdict"
        counts[verdict] = counts.get(verdict, 0) + 1
    told = ", ".join(f"{n} {verdict}" for verdict, n in counts.items())
    said = [
        f"Of {len(result.records)} sampled parameters: {told}. {result.extrapolated[0] if not result.draft else ''}".strip()
    ]
    sampled = f"Sampling: {result.sampling}."
    if result.draft:
        said.append(f"{result.extrapolated[0]} It is for a quick look: draw no conclusions from it.")
        return said
    return [*said, sampled, *getattr(result, "notes", ())]


def _verify(result: Any) -> list[str]:
    passed = result.passed
    missed = [name for name, ok in passed.items() if not ok]
    if missed:
        return [
            f"{len(missed)} of {len(passed)} checks do not pass: {', '.join(missed)}. Numbers computed on this machine are not to be trusted."
        ]
    return [
        f"All {len(passed)} checks pass on this machine. They say that equations are solved as written down, not that the equations are right: "
        "for that see the facts and the validation."
    ]


def _scenarios(result: Any) -> list[str]:
    n = len(result.scenarios)
    return [f"{n} scenario{'s' if n != 1 else ''}: {_listed([s.name for s in result.scenarios], 30)}."]
