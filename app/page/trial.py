"""The tab Trial: the design of a two-armed trial, its power by size, and single trials drawn one after another."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Mapping, Sequence
from functools import cache, lru_cache
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, field_validator
from scipy import stats

from mscrenal.app.page.desk import Answer, work
from mscrenal.app.page.setup import MOST_DOSES, ArmSetup, Problem, Setup, problems_of, setup_of
from mscrenal.calibration import Draws
from mscrenal.model import OBSERVABLES
from mscrenal.model.declare import nearest
from mscrenal.model.text import format_duration, parse_duration
from mscrenal.scenarios import Arm, Scenario, ScenarioError, TrialError, TrialSpec
from mscrenal.scenarios.endpoints import DAYS_PER_YEAR
from mscrenal.scenarios.gallery import DEFAULT_SCENARIO, gallery, load_scenario
from mscrenal.scenarios.run import extrapolations
from mscrenal.scenarios.scenario import regular_visits
from mscrenal.scenarios.scenario_text import scenario_text
from mscrenal.scenarios.sources import draws_of
from mscrenal.scenarios.style import nice_unit
from mscrenal.scenarios.trial_result import Comparison, Share, TrialResult
from mscrenal.scenarios.trial_run import OneTrial, TrialRun
from mscrenal.scenarios.trial_spec import ANALYSES, TRIAL_ENDPOINTS, Rate

__all__ = ["CHANNELS", "Design", "answer", "design_of", "downloads", "form", "single"]

DRAWS = 400  # worlds; as many as trials of a small design
LEAST_N, MOST_N = 4, 300
RATIOS: Mapping[str, tuple[int, int]] = {"1:1": (1, 1), "2:1": (2, 1), "3:1": (3, 1), "1:2": (1, 2)}
LOOKS: Mapping[str, tuple[float, ...]] = {
    "none": (),
    "half": (0.5,),
    "thirds": (round(1 / 3, 4), round(2 / 3, 4)),
}
LEAST_EVERY, MOST_EVERY, MOST_VISITS = 7.0, 182.0, 70
# Trials of a design at first; small designs do them all, large ones as many as so many simulated patients allow.
MOST_TRIALS, LEAST_TRIALS, SIMULATIONS = 400, 60, 24_000
MOST_CURVE, LEAST_CURVE, CURVE_SIMULATIONS, CURVE_N = 100, 24, 16_000, 120
FIXED_SHARE = 2  # trials of the design for one at the medians
MOST_MORE = 8  # times the trials of the beginning
FIRST, LEAST_FIRST, FIRST_SIMULATIONS = 10, 4, 600  # trials of each world before the first curve
PART = 500  # simulated patients between two answers, about half a second of one processor
LINE = 40  # sizes of the smooth curve
MOST_SHOWN = 40  # patients of an arm that are drawn one by one
MOST_AT_ONCE = 25


class Design(BaseModel):
    """A trial of one treated arm against the reference of its scenario; what is None or empty is the scenario's own.

    Parameters
    ----------
    scenario : str or None
        A shipped one; None: the patient of `setup`, against no cells.
    setup : Setup, optional
        Its arms and its horizon do not count here.
    treatment : str
        An arm of the scenario.
    arm : ArmSetup, optional
        A schedule instead of `treatment`.
    n : int, optional
        Patients in the smaller arm.
    ratio : str
        Treated to control, of `RATIOS`.
    endpoint, analysis : str
    horizon, every : float, optional
        Days to the last visit, and between visits.
    alpha : float, optional
        Two-sided.
    dropout, death : float, optional
        Share of patients a year.
    missed : float, optional
        Share of visits.
    looks : str
        Of `LOOKS`.
    seed : int
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    scenario: str | None = DEFAULT_SCENARIO
    setup: Setup | None = None
    treatment: str = Field(default="", max_length=200)
    arm: ArmSetup | None = None
    horizon: float | None = Field(default=None, ge=14, le=5 * DAYS_PER_YEAR, allow_inf_nan=False)
    every: float | None = Field(default=None, ge=LEAST_EVERY, le=MOST_EVERY, allow_inf_nan=False)
    endpoint: str = ""
    analysis: str = ""
    n: int | None = Field(default=None, ge=LEAST_N, le=MOST_N)
    ratio: str = ""
    alpha: float | None = Field(default=None, ge=0.001, le=0.2, allow_inf_nan=False)
    looks: str = ""
    dropout: float | None = Field(default=None, ge=0, le=0.8, allow_inf_nan=False)
    death: float | None = Field(default=None, ge=0, le=0.8, allow_inf_nan=False)
    missed: float | None = Field(default=None, ge=0, le=0.5, allow_inf_nan=False)
    seed: int = Field(default=1, ge=1, le=1_000_000)

    @field_validator("scenario")
    @classmethod
    def _scenario(cls, value: str | None) -> str | None:
        return value if value is None else _one_of(value, tuple(_scenarios()), "scenario")

    @field_validator("endpoint")
    @classmethod
    def _endpoint(cls, value: str) -> str:
        return _one_of(value, tuple(TRIAL_ENDPOINTS), "endpoint") if value else value

    @field_validator("analysis")
    @classmethod
    def _analysis(cls, value: str) -> str:
        return _one_of(value, tuple(ANALYSES), "analysis") if value else value

    @field_validator("ratio")
    @classmethod
    def _ratio(cls, value: str) -> str:
        return _one_of(value, tuple(RATIOS), "ratio") if value else value

    @field_validator("looks")
    @classmethod
    def _looks(cls, value: str) -> str:
        return _one_of(value, tuple(LOOKS), "looks") if value else value

    @field_validator("arm")
    @classmethod
    def _arm(cls, value: ArmSetup | None) -> ArmSetup | None:
        if value is not None and value.off:
            raise ValueError(
                f"switched off: {', '.join(value.off)}. Allowed here: none; a trial gives a whole product."
            )
        return value

    def base(self) -> Scenario:
        """The scenario that the design starts from, up to the visit at which its endpoint is read."""
        if self.scenario is None:
            own = (self.setup or Setup()).model_copy(update={"arms": (self.arm or ArmSetup(),)})
            if own.species != "human":
                raise TrialError(
                    f"species: given {own.species!r}; virtual trials are of people, whose covariates vary. Allowed: human.",
                    key=("species",),
                )
            made = own.model_copy(update={"horizon": max(own.horizon, self.horizon or 0.0)}).scenario()
            return made.replace(
                name="page", trial=TrialSpec(arms=tuple(a.name for a in made.arms), sizes=(30, 30))
            )
        found = load_scenario(self.scenario)
        spec = found.trial or TrialSpec()
        return spec.read_at(found).replace(trial=spec.replace(at_days=0.0))

    def protocol(self) -> Scenario:
        """The scenario of this trial: two arms, its visits, and the design in its ``trial``, everything filled in.

        Raises
        ------
        ScenarioError
            What does not go together, with its key.
        """
        base = self.base()
        own = base.trial or TrialSpec()
        control = base.arm(base.reference).replace(n=None)
        treated = self._treated(base, own).replace(n=None)
        horizon = self.horizon or base.horizon_days
        visits = base.visits
        if self.every is not None or horizon != base.horizon_days:
            visits = regular_visits(self.every or _interval(base.visits), horizon)
        if len(visits) > MOST_VISITS:
            raise ScenarioError(
                f"visits: given {len(visits)}. Allowed: up to {MOST_VISITS}. Measure more seldom, or for a shorter time.",
                key=("every",),
            )
        bare = base.replace(arms=(control, treated), horizon_days=horizon, visits=visits, trial=None)
        endpoint = self.endpoint or own.endpoint
        keep = not self.endpoint or self.endpoint == own.endpoint
        changes: dict[str, Any] = {
            "arms": (control.name, treated.name),
            "sizes": self._sizes(base, own, treated.name),
            "endpoint": endpoint or next((e for e in base.endpoints if e in TRIAL_ENDPOINTS), ""),
            "analysis": self.analysis or (own.analysis if keep else ""),
            "block": 0 if self.ratio else own.block,
        }
        for name in ("alpha", "missed"):
            if getattr(self, name) is not None:
                changes[name] = getattr(self, name)
        for name in ("dropout", "death"):
            if getattr(self, name) is not None:
                changes[name] = Rate(getattr(self, name), DAYS_PER_YEAR)
        if self.looks:
            changes["looks"] = LOOKS[self.looks]
        return bare.replace(trial=own.replace(**changes).of(bare))

    def _treated(self, base: Scenario, own: TrialSpec) -> Arm:
        if self.scenario is None:
            given = self.arm or ArmSetup()
            return Arm(given.name(), (given.course(),))
        if self.arm is not None:
            return Arm(self.arm.name(), (self.arm.course(),))
        names = treatments(base)
        if self.treatment:
            if self.treatment not in names:
                raise ScenarioError(
                    f"treatment: given {self.treatment[:60]!r}.{nearest(self.treatment[:60], names)}",
                    key=("treatment",),
                )
            return base.arm(self.treatment)
        wanted = [a for a in own.arms if a in names] or [a for a in names if base.arm(a).n is not None]
        return base.arm((wanted or list(names))[0])

    def _sizes(self, base: Scenario, own: TrialSpec, treated: str) -> tuple[int, int]:
        """Patients of the control and of the treated arm."""
        known = {a.name: a.n for a in base.arms}
        if own.sizes:
            known |= dict(zip(own.arms, own.sizes, strict=True))
        of_control, of_treated = known.get(base.reference), known.get(treated)
        smallest = min((n for n in known.values() if n), default=30)
        pair = (of_control or of_treated or smallest, of_treated or of_control or smallest)
        if self.n is None and not self.ratio:
            return pair
        n = self.n or min(pair)
        to, of = RATIOS[self.ratio or _ratio_of(pair)]
        return n * of // min(to, of), n * to // min(to, of)

    # ----------------------------------------------------------------------- the address

    def pairs(self) -> list[tuple[str, str]]:
        """Names and values of the query, what is the scenario's own left out."""
        out: list[tuple[str, str]] = []
        if self.scenario is None:
            patient = [(n, v) for n, v in (self.setup or Setup()).pairs() if n not in ("arm", "horizon")]
            # Without a word on the patient the address would be that of the shipped scenario.
            out += patient or [("disease", (self.setup or Setup()).disease)]
        elif self.scenario != DEFAULT_SCENARIO:
            out.append(("scenario", self.scenario))
        for name in _OWN:
            value = getattr(self, name)
            if name == "scenario" or value == Design.model_fields[name].default:
                continue
            if name == "arm":
                out.append(("arm", value.text()))
            elif name in ("horizon", "every"):
                out.append(("visits" if name == "every" else name, format_duration(value)))
            else:
                out.append((name, f"{value:g}" if isinstance(value, float) else str(value)))
        return out


_OWN = tuple(name for name in Design.model_fields if name != "setup")
_OF_A_PATIENT = {name for name, _ in Setup(species="rat").pairs()} | {
    "disease", "sex", "age", "weight", "egfr", "uacr", "hba1c", "duration", "sledai", "insulin", "start_week", "drugs",
}  # fmt: skip


def _one_of(value: str, allowed: Sequence[str], what: str) -> str:
    if value not in allowed:
        raise ValueError(f"unknown {what} {value[:60]!r}.{nearest(value[:60], allowed)}")
    return value


@cache
def _scenarios() -> Mapping[str, Scenario]:
    """Shipped scenarios of people with an arm beside the reference."""
    return {s.name: s for s in gallery() if s.subject.species == "human" and len(s.arms) > 1}


def treatments(scenario: Scenario) -> tuple[str, ...]:
    """Arms that can be the treated one."""
    return tuple(a.name for a in scenario.arms if a.name != scenario.reference)


def _interval(visits: Sequence[float]) -> float:
    """Days between most visits."""
    gaps = np.diff(visits)
    return float(np.clip(np.median(gaps), LEAST_EVERY, MOST_EVERY)) if len(gaps) else 28.0


def _ratio_of(sizes: tuple[int, int]) -> str:
    """The nearest of `RATIOS` to patients of the control and of the treated arm."""
    asked = math.log(sizes[1] / sizes[0])
    return min(RATIOS, key=lambda r: abs(math.log(RATIOS[r][0] / RATIOS[r][1]) - asked))


# --------------------------------------------------------------------------- the address


def design_of(pairs: Sequence[tuple[str, str]]) -> tuple[Design, list[Problem]]:
    """What the query of an address says; what it says wrongly is left out, with the reason.

    Names of a patient (as on Explore) make a patient of one's own, others are fields of `Design`; `visits` is `every`.
    """
    problems: list[Problem] = []
    said = [(name, value) for name, value in pairs if name != "tab"]
    of_patient = [(n, v) for n, v in said if n in _OF_A_PATIENT]
    values: dict[str, Any] = {}
    if of_patient and not any(n == "scenario" for n, _ in said):
        setup, wrong = setup_of(of_patient)
        problems += wrong
        values = {"scenario": None, "setup": setup}
    elif of_patient:
        problems.append(
            Problem(
                of_patient[0][0],
                "given beside a scenario, which has patients of its own. Allowed: one of the two.",
            )
        )
    known = {*_OWN, "visits"} - {"every"}
    for name, text in said:
        if name in _OF_A_PATIENT:
            continue
        field = {"visits": "every"}.get(name, name)
        try:
            if name not in known:
                raise ValueError(f"unknown.{nearest(name[:60], sorted(known | _OF_A_PATIENT))}")
            if field in values:
                raise ValueError("given more than once. Allowed: one; a trial here has one treated arm.")
            value: Any = text
            if name == "arm":
                value = ArmSetup.read(text)
            elif field in ("horizon", "every"):
                value = parse_duration(text, what=name)
            # What was read is what the model makes of the text: 40, not "40".
            values[field] = getattr(Design.model_validate({field: value}), field)
        except ValueError as error:
            problems += [
                Problem(name[:60] + (f".{p.field}" if name == "arm" and p.field else ""), p.message)
                for p in problems_of(error)
            ]
    return _that_goes(values, problems), problems


def _that_goes(values: Mapping[str, Any], problems: list[Problem]) -> Design:
    """The design of these values; if they do not go together, of those that go with the ones before them."""
    whole = Design(**values)
    try:
        whole.protocol()
        return whole
    except ScenarioError:
        pass
    kept: dict[str, Any] = {}
    if values.get("scenario", "") is None:
        kept = {"scenario": None, "setup": values["setup"]}
        kept = _patient_that_goes(kept, problems)
    # An arm may need the horizon that is given beside it.
    groups = [("scenario",), ("treatment",), ("arm", "horizon"), ("arm",), ("horizon",), ("every",), ("endpoint", "analysis", "horizon", "every"), ("endpoint",)]  # fmt: skip
    for group in [*groups, *((name,) for name in _OWN)]:
        new = {name: values[name] for name in group if name in values and name not in kept}
        if not new or (new.get("scenario", "") is None):
            continue
        try:
            Design(**{**kept, **new}).protocol()
        except ScenarioError:
            continue
        kept.update(new)
    for name in values:
        if name in kept or name in ("scenario", "setup"):
            continue
        try:
            Design(**{**kept, name: values[name]}).protocol()
        except ScenarioError as error:
            problems.append(Problem({"every": "visits"}.get(name, name), error.message))
    return Design(**kept)


def _patient_that_goes(values: dict[str, Any], problems: list[Problem]) -> dict[str, Any]:
    """A patient of one's own without the covariates that cannot be; none at all if that does not mend it."""
    for _ in Setup.model_fields:
        try:
            Design(**values).protocol()
        except ScenarioError as error:
            name = next((str(k) for k in error.key if k in Setup.model_fields), "patient")
            problems.append(Problem(name, error.message))
            if name in ("patient", "species"):
                break
            default = Setup.model_fields[name].default
            if getattr(values["setup"], name) == default:
                break
            values = {**values, "setup": values["setup"].model_copy(update={name: default})}
        else:
            return values
    return {}


async def form(payload: Mapping[str, Any]) -> AsyncIterator[Answer]:
    """What the form shows of an address: the design, what fills in for what it leaves out, what may be chosen.

    Parameters
    ----------
    payload : mapping
        `pairs`: names and values.
    """
    pairs = payload.get("pairs")
    if not isinstance(pairs, list) or not all(
        isinstance(p, list) and len(p) == 2 and all(isinstance(t, str) for t in p) for p in pairs
    ):
        raise ValueError("pairs: Allowed: a list of names and values, both text.")
    design, problems = await work(design_of, [(n, v) for n, v in pairs])
    yield {
        "design": design.model_dump(mode="json", exclude_unset=True) | {"scenario": design.scenario},
        "problems": [p.record() for p in problems],
        "choices": _choices(design),
        "options": _options(),
    }


@cache
def _options() -> Answer:
    """What may be chosen in every design."""
    return {
        "scenarios": {name: s.title for name, s in _scenarios().items()},
        "endpoints": {
            e.name: {
                "label": e.label,
                "unit": nice_unit(e.unit),
                "kind": e.kind,
                "better": e.better,
                "analyses": list(e.analyses),
            }
            for e in TRIAL_ENDPOINTS.values()
        },
        "analyses": dict(ANALYSES),
        "ratios": list(RATIOS),
        "looks": {"none": "none", "half": "one, at half of the patients", "thirds": "two, at thirds"},
        "n": [LEAST_N, MOST_N],
        "seed": [1, 1_000_000],
    }


def _choices(design: Design) -> Answer:
    """What may be chosen from this scenario, and what stands for what is left out."""
    base, protocol = design.base(), design.protocol()
    spec = protocol.trial
    assert spec is not None
    assert spec.death is not None
    treated = protocol.arm(spec.arms[1])
    own = Design(scenario=design.scenario, setup=design.setup).protocol()
    return {
        "title": base.title,
        "question": base.question,
        "source": base.source,
        "patient": _who(protocol),
        "reference": base.reference,
        "treatments": [] if design.scenario is None else list(treatments(base)),
        "treatment": treated.name,
        "given": _given(treated),
        "arm": _nearest_arm(treated, protocol).model_dump(mode="json"),
        "horizon": protocol.horizon_days,
        "every": design.every or _interval(protocol.visits),
        "visits": len(protocol.visits),
        "endpoint": spec.endpoint,
        "analysis": spec.analysis,
        "n": min(spec.sizes),
        "ratio": _ratio_of((spec.sizes[0], spec.sizes[1])),
        "alpha": spec.alpha,
        "looks": design.looks or next((k for k, v in LOOKS.items() if v == spec.looks), "none"),
        "dropout": _yearly(spec.dropout),
        "death": _yearly(spec.death),
        "missed": spec.missed,
        "changed": design.pairs() != Design(scenario=design.scenario, setup=design.setup).pairs(),
        "shipped_n": min(own.trial.sizes) if own.trial else None,
    }


def _yearly(rate: Rate) -> float:
    return round(-math.expm1(-rate.per_day * DAYS_PER_YEAR), 4)


def _who(scenario: Scenario) -> str:
    """Who is admitted, in a sentence."""
    spec = scenario.trial
    assert spec is not None
    assert spec.population is not None
    population = spec.population
    short = {"age": "age", "weight_kg": "weight", "egfr": "eGFR", "uacr": "UACR", "hba1c": "HbA1c", "sledai": "SLEDAI", "duration_years": "years of disease"}  # fmt: skip
    parts = []
    for name, item in population.covariates.items():
        if name not in short:
            continue
        ends = f" ({item.low:g} to {item.high:g})" if not item.constant and math.isfinite(item.high) else ""
        parts.append(f"{short[name]} {item.centre:g}{ends}")
    drugs = f"; on {', '.join(population.drugs)}" if population.drugs else ""
    return f"{'; '.join(parts)}; {population.male_share:.0%} men{drugs}"


def _given(arm: Arm) -> str:
    """What an arm gets, in a sentence."""
    said = []
    for course in arm.courses:
        days = ", ".join(f"{d:g}" for d in course.days[:8]) + (" and so on" if course.n_doses > 8 else "")
        said.append(f"{course.product} {course.route}, {course.dose} on day {days}")
    said += [f"{d.drug} from day {d.start_day:g}" for d in arm.drugs_added]
    return f"{'; '.join(said) or 'Nothing'}."


def _nearest_arm(arm: Arm, scenario: Scenario) -> ArmSetup:
    """The arm as equal doses per kg: what the schedule's controls start from."""
    if not arm.courses:
        return ArmSetup()
    course = arm.courses[0]
    dose = course.amount.model_amount(course.kind, scenario.weight_kg)
    n = min(course.n_doses, MOST_DOSES)
    every = float(np.clip(round(arm.interval_days or 7.0, 2), 1, 730))
    return ArmSetup(product=course.product, route=course.route, dose=float(f"{np.clip(dose, 0.01, 1000):.3g}"), n=n, every=every)  # fmt: skip


# --------------------------------------------------------------------------- power and assurance


@lru_cache(maxsize=6)
def _run(design: Design) -> TrialRun:
    """The trials of a design; one that comes back goes on from where it was left."""
    return TrialRun(design.protocol(), draws=_worlds(design.seed), seed=design.seed, most_of_curve=CURVE_N)


@lru_cache(maxsize=4)
def _worlds(seed: int) -> Draws:
    return draws_of(DRAWS, seed, "posterior")


def _wanted(run: TrialRun, more: int) -> dict[str, int]:
    """Trials of each series."""
    design = int(np.clip(SIMULATIONS // run.simulations("design"), LEAST_TRIALS, MOST_TRIALS)) * more
    curve = int(np.clip(CURVE_SIMULATIONS // run.simulations("curve"), LEAST_CURVE, MOST_CURVE)) * more
    return {"design": design, "fixed": design // FIXED_SHARE, "curve": curve}


async def answer(payload: Mapping[str, Any]) -> AsyncIterator[Answer]:
    """Power and assurance of a design: from a few trials first, then of more and more.

    Parameters
    ----------
    payload : mapping
        `design`: the fields of `Design`; `more`: times the trials of the beginning, 1 to 8.
    """
    design = Design.model_validate(payload.get("design"))
    more = payload.get("more", 1)
    if isinstance(more, bool) or not isinstance(more, int) or not 1 <= more <= MOST_MORE:
        raise ValueError(f"more: given {str(more)[:40]!r}. Allowed: a whole number from 1 to {MOST_MORE}.")
    run = await work(_run, design)
    wanted = _wanted(run, more)
    yield {"stage": "design", **_told(design, run), "of": wanted}
    few = int(np.clip(FIRST_SIMULATIONS // run.simulations("design"), LEAST_FIRST, FIRST))
    await asyncio.gather(*(work(run.conduct, s, few) for s in ("design", "fixed") if not run.done(s)))
    while True:
        done = {series: run.done(series) for series in wanted}
        yield {"stage": "curve", "done": done, "of": wanted, **await work(_numbers, run)}
        left = {series: wanted[series] - done[series] for series in wanted if done[series] < wanted[series]}
        if not left:
            break
        # What lags behind most comes first; two parts at once, as this machine may have two processors.
        turns = sorted(left, key=lambda s: done[s] / wanted[s])
        turns = [turns[0], turns[1] if len(turns) > 1 else turns[0]]
        parts = []
        for series in turns:
            n = min(max(1, PART // run.simulations(series)), left[series])
            if n > 0:
                parts.append(work(run.conduct, series, n))
                left[series] -= n
        await asyncio.gather(*parts)


def _told(design: Design, run: TrialRun) -> Answer:
    """What is known of a design before its first trial."""
    spec, endpoint, scenario = run.spec, run.endpoint, run.scenario
    return {
        "query": [list(pair) for pair in design.pairs()],
        "choices": _choices(design),
        "endpoint": {
            "name": endpoint.name,
            "label": endpoint.label,
            "unit": nice_unit(endpoint.unit),
            "ratio": endpoint.as_ratio,
            "none": endpoint.printed(0.0),
            "better": endpoint.better,
            "estimand": endpoint.estimand,
            "kind": endpoint.kind,
        },
        "analysis": ANALYSES[spec.analysis],
        "arms": list(spec.arms),
        "sizes": list(spec.sizes),
        "extrapolated": extrapolations(scenario, _worlds(design.seed)),
        "seed": design.seed,
        "draws": DRAWS,
    }


def _number(value: float, digits: int = 5) -> float | None:
    """As JSON has it; None for what is no number."""
    return float(f"{value:.{digits}g}") if math.isfinite(value) else None


def _share(share: Share) -> Answer:
    """A share with its standard error, and its 95 % interval (Wilson), which few trials make wide."""
    if not share.n:
        return {"value": None, "error": None, "low": None, "high": None, "n": 0}
    ends = stats.binomtest(round(share.value * share.n), share.n).proportion_ci(method="wilson")
    return {
        "value": _number(share.value),
        "error": _number(share.error),
        "low": _number(float(ends.low)),
        "high": _number(float(ends.high)),
        "n": share.n,
    }


def _numbers(run: TrialRun) -> Answer:
    """The result so far as plain data."""
    result = run.result()
    sizes = sorted({round(s) for s in np.geomspace(LEAST_N, MOST_N, LINE)})
    control, treated = run.spec.sizes
    scale = treated / min(control, treated)  # of the treated arm, for one patient in the smaller
    line = run.expected([round(s * scale) for s in sizes])
    mid, error = line["assurance"].to_numpy(), line["mc_error"].to_numpy()
    curve = result.power_curve
    dots = []
    for row in curve.itertuples():
        n = int(row.trials)
        dots.append(
            {
                "n": min(int(row.n_arm), int(row.n_reference)),
                "n_arm": int(row.n_arm),
                "n_reference": int(row.n_reference),
                "design": row.series == "design",
                "assurance": _share(Share(float(row.assurance), float(row.mc_error), n)),
                "type1": _share(Share(float(row.type1_error), float(row.type1_mc_error), n)),
            }
        )
    return {
        "line": {
            "n": sizes,
            "mid": [_number(v) for v in mid],
            "low": [_number(max(0.0, v)) for v in mid - 1.96 * error],
            "high": [_number(min(1.0, v)) for v in mid + 1.96 * error],
        },
        "dots": dots,
        "numbers": _comparison(result.comparisons[0]),
        "failed": _failed(result),
        "hash": result.provenance["scenario_hash"],
        "version": result.provenance["version"],
        "words": list(result.summary),
    }


def _comparison(c: Comparison) -> Answer:
    return {
        "assurance": _share(c.assurance),
        "power": _share(c.power),
        "type1": _share(c.type1),
        "in_favour": _share(c.in_favour),
        "truth": [_number(v) for v in (c.truth[1], c.truth[0], c.truth[2])],
        "truth_fixed": _number(c.truth_fixed),
        "estimate": [_number(v) for v in (c.estimate[1], c.estimate[0], c.estimate[2])],
        "detectable": _number(c.detectable),
        "exaggeration": _number(c.exaggeration),
        "analysed": _number(c.analysed),
        "stops": [_share(s) for s in c.stops],
        "expected_n": _number(c.expected_n),
    }


def _failed(result: TrialResult) -> str | None:
    if not result.n_failed:
        return None
    first = result.failures[0]
    return f"{result.n_failed} simulated patients failed and are left out; the first: {first['message']}"


# --------------------------------------------------------------------------- one trial


async def single(payload: Mapping[str, Any]) -> AsyncIterator[Answer]:
    """Trials of a design one by one: what each finds, and the last of them patient by patient.

    Parameters
    ----------
    payload : mapping
        `design`; `first`, the number of the first; `n`, how many, 1 to 25; `world`: own, or medians.
    """
    design = Design.model_validate(payload.get("design"))
    first, n, world = payload.get("first", 0), payload.get("n", 1), payload.get("world", "own")
    if isinstance(n, bool) or not isinstance(n, int) or not 1 <= n <= MOST_AT_ONCE:
        raise ValueError(
            f"n: given {str(n)[:40]!r} trials. Allowed: a whole number from 1 to {MOST_AT_ONCE}."
        )
    if world not in ("own", "medians"):
        raise ValueError(f"world: given {str(world)[:40]!r}. Allowed: own, medians.")
    run = await work(_run, design)
    # In turns, so that a newer question need not wait for all of a large design.
    at_once = max(1, PART // run.simulations("design"))
    for start in range(0, n, at_once):
        found = await work(run.some, first + start, min(at_once, n - start), fixed=world == "medians")
        yield {"trials": [_finding(one) for one in found], "last": await work(_patients, found[-1])}


def _finding(one: OneTrial) -> Answer:
    f = one.findings[0]
    return {
        "number": one.number,
        "draw": one.draw,
        "effect": _number(f.effect),
        "low": _number(f.low),
        "high": _number(f.high),
        "p": _number(f.p),
        "truth": _number(f.truth),
        "in_favour": f.in_favour,
        "against": f.against,
        "analysed": f.n_analysed,
    }


def _patients(one: OneTrial) -> Answer:
    """Means of both arms, and patients: not more than can be told apart."""
    means = one.means()
    out = []
    for a, name in enumerate(one.arms):
        mine = np.flatnonzero(one.arm == a)
        seen = one.readings[mine]
        out.append(
            {
                "name": name,
                "n": len(mine),
                "mean": [_number(v) for v in means[a, :, 0]],
                "low": [_number(v) for v in means[a, :, 1]],
                "high": [_number(v) for v in means[a, :, 2]],
                "there": [int(k) for k in np.isfinite(seen).sum(axis=0)],
                "patients": [[_number(v, 4) for v in row] for row in seen[:MOST_SHOWN]],
                "reached": None if one.reached is None else int(one.reached[mine].sum()),
            }
        )
    name = one.endpoint.observables[0]
    observable = next(o for o in OBSERVABLES if o.name == name)
    return {
        "days": [_number(d) for d in one.days],
        "arms": out,
        "label": observable.label or name,
        "unit": nice_unit(observable.unit),
        "log": one.endpoint.kind == "log_ratio",
    }


# --------------------------------------------------------------------------- files


async def downloads(payload: Mapping[str, Any]) -> AsyncIterator[Answer]:
    """The design as a scenario file for `mscrenal trial`.

    Parameters
    ----------
    payload : mapping
        `design`.
    """
    design = Design.model_validate(payload.get("design"))
    yield {
        "file": "trial.toml",
        "type": "application/toml",
        "text": scenario_text(
            design.protocol(),
            head="Designed on the page of mscrenal. The same trials as there:\n"
            f"mscrenal trial trial.toml --draws {DRAWS} --trials {MOST_TRIALS} --seed {design.seed}",
        ),
    }


CHANNELS = {"trial_form": form, "trial": answer, "trial_one": single, "trial_file": downloads}
