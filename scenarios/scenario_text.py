"""A scenario as the text of a file: what `read_scenario` reads back is the same scenario."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

from mscrenal.model.text import format_duration
from mscrenal.scenarios.scenario import (
    Arm,
    Course,
    Distribution,
    PatientSpec,
    PopulationSpec,
    Scenario,
    ScenarioError,
    Target,
)
from mscrenal.scenarios.trial_spec import Rate, TrialSpec

__all__ = ["scenario_text"]


def scenario_text(scenario: Scenario, *, head: str = "") -> str:
    """Write a scenario as TOML.

    Parameters
    ----------
    head : str
        Lines of comment at the top.

    Raises
    ------
    ScenarioError
        If an arm has what scenario files cannot say and event tables can: a steady state, or resets.
    """
    top = {
        "title": scenario.title,
        "source": scenario.source,
        "question": scenario.question,
        "horizon": format_duration(scenario.horizon_days),
        "reference": scenario.reference,
        "visits": [_number(v) for v in scenario.visits],
        "endpoints": list(scenario.endpoints),
    }
    lines = [f"# {line}" for line in head.splitlines()]
    lines += [f"{key} = {_value(value)}" for key, value in top.items() if value != ""]
    if scenario.patient is not None:
        lines += _table("[patient]", _patient(scenario.patient))
    if scenario.population is not None:
        lines += _table("[population]", _population(scenario.population))
    for arm in scenario.arms:
        lines += _arm(arm)
    if scenario.trial is not None:
        lines += _trial(scenario.trial)
    return "\n".join(lines) + "\n"


def _number(value: float) -> float | int:
    return int(value) if value == int(value) else float(value)


def _value(value: Any) -> str:
    """A value of TOML on one line."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        # What JSON escapes TOML escapes alike, but for DEL.
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{k} = {_value(v)}" for k, v in value.items()) + " }"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_value(v) for v in value) + "]"
    return repr(_number(value))


def _table(name: str, values: Mapping[str, Any]) -> list[str]:
    return ["", name, *(f"{key} = {_value(value)}" for key, value in values.items())]


def _patient(patient: PatientSpec) -> dict[str, Any]:
    out = {}
    for name in PatientSpec.__dataclass_fields__:
        value = getattr(patient, name)
        if value is None or value in ((), {}):
            continue
        out[name] = value
    return out


def _population(population: PopulationSpec, *, of_trial: bool = False) -> dict[str, Any]:
    out: dict[str, Any] = {} if of_trial else {"n": population.n}
    out |= {"disease": population.disease, "male_share": population.male_share}
    if population.drugs:
        out["drugs"] = population.drugs
    out |= {name: _distribution(item) for name, item in population.covariates.items()}
    if population.correlations:
        out["correlations"] = [
            {"between": [c.first, c.second], "value": c.value} for c in population.correlations
        ]
    if population.targets:
        out["match"] = {name: _target(item) for name, item in population.targets.items()}
    return out


def _distribution(item: Distribution) -> dict[str, float]:
    names = ("mean", "sd") if item.kind == "normal" else ("median", "gsd")
    out = dict(zip(names, (item.centre, item.spread), strict=True))
    limits = {"min": item.low, "max": item.high}
    return out | {name: value for name, value in limits.items() if math.isfinite(value)}


def _target(item: Target) -> dict[str, float]:
    names = ("mean", "sd") if item.kind == "normal" else ("median", "gsd")
    out = {names[0]: item.centre}
    return out if item.spread is None else out | {names[1]: item.spread}


def _arm(arm: Arm) -> list[str]:
    if arm.resets:
        raise ScenarioError(
            f"arm {arm.name!r} has resets, which a scenario file cannot say. Write an event table."
        )
    values: dict[str, Any] = {"name": arm.name}
    if arm.n is not None:
        values["n"] = arm.n
    if arm.drugs_added:
        values["drugs_added"] = [
            {"drug": d.drug, "start": format_duration(d.start_day)}
            | ({} if d.stop_day is None else {"stop": format_duration(d.stop_day)})
            | {"level": d.level}
            for d in arm.drugs_added
        ]
    if len(arm.courses) == 1:
        return _table("[[arm]]", values | _course(arm, arm.courses[0]))
    lines = _table("[[arm]]", values)
    for course in arm.courses:
        lines += _table("[[arm.course]]", _course(arm, course))
    return lines


def _course(arm: Arm, course: Course) -> dict[str, Any]:
    if course.steady_state:
        raise ScenarioError(
            f"arm {arm.name!r} starts in a steady state, which a scenario file cannot say. Write an event table."
        )
    return {
        "product": course.product,
        "route": course.route,
        "dose": course.dose,
        "days": [_number(day) for day in course.days],
        "infusion": format_duration(course.infusion_days),
    }


def _rate(rate: Rate) -> dict[str, Any]:
    return {"share": rate.share, "by": format_duration(rate.by_days)}


def _trial(spec: TrialSpec) -> list[str]:
    given: dict[str, Any] = {
        "arms": spec.arms,
        "n": spec.sizes,
        "endpoint": spec.endpoint,
        "analysis": spec.analysis,
        "alpha": spec.alpha,
        "block": spec.block,
        "missed": spec.missed,
        "dropout": _rate(spec.dropout),
        "looks": spec.looks,
    }
    if spec.death is not None:
        given["death"] = _rate(spec.death)
    if spec.at_days:
        given["at"] = format_duration(spec.at_days)
    lines = _table("[trial]", {k: v for k, v in given.items() if v not in ((), "")})
    if spec.population is not None:
        lines += _table("[trial.population]", _population(spec.population, of_trial=True))
    return lines
