"""Regimens to choose from: one product by one route, equal doses at equal intervals, within limits.

`Space` knows what the limits leave: every regimen that it gives, on its grid or at any point of its unit cube, keeps
all of them, so that no search has to be told off.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property

import numpy as np

from mscrenal.calibration.studies import STUDY_FOLDER
from mscrenal.model import PRODUCTS, ROUTES
from mscrenal.model.declare import nearest
from mscrenal.model.text import (
    DoseAmount,
    DoseKind,
    DoseUnit,
    format_dose,
    format_duration,
    parse_dose,
    parse_duration,
)
from mscrenal.scenarios.run import RunError
from mscrenal.scenarios.scenario import LARGEST_AMOUNT, LARGEST_HUMAN_AMOUNT, Arm, Course, Scenario

__all__ = [
    "BURDEN_UNITS",
    "Limits",
    "Regimen",
    "Space",
    "Studied",
    "limits_of",
    "regimen_of",
    "short",
    "studied_in_people",
]

# In which unit a dose of each kind is written, and how a total of it is told.
DOSE_UNITS: Mapping[DoseKind, DoseUnit] = {"cells": "", "ev": "ug EV protein", "medium": "cell-equivalents"}
BURDEN_UNITS: Mapping[DoseKind, str] = {
    "cells": "cells/kg",
    "ev": "particles/kg",
    "medium": "cell-equivalents/kg",
}
MODEL_SCALE: Mapping[DoseKind, float] = {"cells": 1e6, "ev": 1e9, "medium": 1e6}

# People: of cells the smallest (skyler2015, 0.3e6/kg) and the largest dose (rexlemestrocel-L, 3e8 cells, 4e6/kg at 75 kg)
# of the evidence. assumed for vesicles: what ev-uc compares, around 100 ug/kg (Nassar 2016) and the 200 ug/kg that match
# 1e6 cells/kg; for medium: as cells, since a dose of it is told as the cells that made it.
DOSES: Mapping[DoseKind, tuple[float, float]] = {
    "cells": (0.3e6, 4e6),
    "ev": (50.0, 200.0),
    "medium": (0.3e6, 4e6),
}
# assumed: six infusions are the most of any scenario that ships (uc-dn-weekly, dose-frequency), and 6e6 cells/kg is what
# they bring in all; nobody is infused more often than weekly there.
MOST_VISITS, MOST_CELLS, SHORTEST_INTERVAL = 6, 6e6, 7.0
# assumed: doses further apart than half a year are no course any more.
LONGEST_INTERVAL = 182.0
# assumed where the scenario gives none by that route: an hour into a vein as in the trials, five minutes into the artery
# (saad2017), all else at once.
INFUSION_DAYS: Mapping[str, float] = {"IV": 1 / 24, "IA-renal": 5 / 1440}
GRID_DOSES = 4
NEAR = 1.2  # doses of the grid nearer to each other than by this factor tell the same twice
GRID_NUMBERS = (1, 2, 3, 4, 6, 8, 12, 18, 24)
GRID_INTERVALS = (1, 2, 4, 8)  # times the shortest
MOST_CANDIDATES = 5000
LARGEST_VISITS = 100


@dataclass(frozen=True)
class Regimen:
    """`n_doses` equal doses of a product, one each `interval_days`, the first on day 0.

    dose : per kg, in the unit of its kind: cells, ug EV protein, cell-equivalents. One dose has interval 0.
    """

    product: str
    route: str
    dose: float
    n_doses: int
    interval_days: float
    infusion_days: float = 0.0

    @property
    def kind(self) -> DoseKind:
        """Whether it is dosed as cells, EVs or medium."""
        return PRODUCTS[self.product].kind

    @property
    def dose_text(self) -> str:
        """A dose as scenario files write it."""
        return format_dose(DoseAmount(self.dose, DOSE_UNITS[self.kind], True))

    @property
    def label(self) -> str:
        """In a few words.

        >>> Regimen("UC", "IV", 1e6, 3, 7.0).label
        'UC IV 1e6/kg x3, every 1w'
        """
        often = (
            f" x{self.n_doses}, every {format_duration(self.interval_days)}" if self.n_doses > 1 else " once"
        )
        return f"{self.product} {self.route} {self.dose_text}{often}"

    @cached_property
    def course(self) -> Course:
        """As the scenario's arms have it."""
        days = tuple(i * self.interval_days for i in range(self.n_doses))
        return Course(self.product, self.route, self.dose_text, days, self.infusion_days)

    @property
    def arm(self) -> Arm:
        """An arm that gives it."""
        return Arm(self.label, (self.course,))

    @property
    def amount(self) -> float:
        """One dose as the model takes it: 1e6 cells/kg, 1e9 particles/kg."""
        return self.course.amount.model_amount(self.kind, 1.0)

    @property
    def burden(self) -> float:
        """All doses, per kg, in `BURDEN_UNITS` of its kind."""
        return self.amount * MODEL_SCALE[self.kind] * self.n_doses

    @property
    def cells_per_kg(self) -> float:
        """Cells/kg in all; 0 for EVs and medium, which bring none."""
        return self.burden if self.kind == "cells" else 0.0

    @property
    def last_day(self) -> float:
        """Day of the last dose."""
        return (self.n_doses - 1) * self.interval_days

    @property
    def immunogenic(self) -> bool:
        """Whether the host can become sensitised: a donor's cells."""
        return PRODUCTS[self.product].parameter("immunogenicity").value > 0

    @property
    def record(self) -> dict[str, object]:
        """As JSON has it."""
        return {
            "name": self.label,
            "product": self.product,
            "route": self.route,
            "dose": self.dose_text,
            "n_doses": self.n_doses,
            "interval_days": self.interval_days if self.n_doses > 1 else None,
            "days": list(self.course.days),
            "infusion_days": self.infusion_days,
        }


def regimen_of(arm: Arm, weight_kg: float) -> Regimen | None:
    """A scenario's arm as a regimen; None if it is more than one course of equal doses at equal intervals from day 0."""
    if len(arm.courses) != 1 or arm.drugs_added or arm.resets:
        return None
    course = arm.courses[0]
    if course.steady_state or course.days[0] != 0 or (course.n_doses > 1 and arm.interval_days is None):
        return None
    amount, unit = course.amount, DOSE_UNITS[course.kind]
    per_kg = amount.per_kilogram(weight_kg)
    if amount.unit != unit and course.kind == "ev":
        per_kg *= amount.model_amount("ev", weight_kg) / DoseAmount(
            per_kg, "ug EV protein", True
        ).model_amount("ev", 1.0)
    return Regimen(
        course.product, course.route, per_kg, course.n_doses, arm.interval_days or 0.0, course.infusion_days
    )


# --------------------------------------------------------------------------- limits


@dataclass(frozen=True)
class Limits:
    """What a regimen must keep.

    Attributes
    ----------
    cells_per_kg : float
        In all; of cells only.
    visits : int
        Days with a dose.
    interval_days : float
        The shortest between doses.
    horizon_days : float
        The last infusion ends before.
    doses : mapping of kind to (smallest, largest), per kg in the unit of the kind
    risk : float, optional
        Largest median sensitisation (`mscrenal.scenarios.optimise`), 0 to 1.
    """

    cells_per_kg: float
    visits: int
    interval_days: float
    horizon_days: float
    doses: Mapping[DoseKind, tuple[float, float]]
    risk: float | None = None

    def keeps(self, regimen: Regimen) -> bool:
        """Whether a regimen keeps all limits but that on risk, which only a simulation can tell."""
        low, high = self.doses[regimen.kind]
        near = 1 + 1e-9
        return (
            low <= regimen.dose * near
            and regimen.dose <= high * near
            and regimen.cells_per_kg <= self.cells_per_kg * near
            and regimen.n_doses <= self.visits
            and (regimen.n_doses == 1 or regimen.interval_days * near >= self.interval_days)
            and regimen.last_day + regimen.infusion_days < self.horizon_days
        )

    @property
    def record(self) -> dict[str, object]:
        """As JSON has it."""
        return {
            "cells_per_kg": self.cells_per_kg,
            "visits": self.visits,
            "interval_days": self.interval_days,
            "horizon_days": self.horizon_days,
            "risk": self.risk,
        }


def limits_of(
    scenario: Scenario,
    *,
    max_cells: str | None = None,
    max_visits: int | None = None,
    min_interval: str | None = None,
    min_dose: str | None = None,
    max_dose: str | None = None,
    max_risk: float | None = None,
) -> Limits:
    """Limits as given; where none is, those of this package, widened to hold the scenario's own regimens.

    Raises
    ------
    RunError, ScenarioError
        For limits that contradict each other, or are none.
    """
    weight, horizon = scenario.weight_kg, float(scenario.horizon_days)
    own = [r for a in scenario.arms if (r := regimen_of(a, weight)) is not None]
    doses = {kind: _range(kind, own, scenario) for kind in DOSES}
    lowest = None if min_dose is None else _dose(min_dose, weight, scenario, "--min-dose")
    highest = None if max_dose is None else _dose(max_dose, weight, scenario, "--max-dose")
    if lowest and highest and lowest[0] == highest[0] and lowest[1] > highest[1]:
        raise RunError(
            f"--min-dose: given {min_dose}, above --max-dose of {max_dose}. Exchange them, or leave one out."
        )
    # A limit beyond the other one that nobody gave moves that too.
    for kind, dose in (lowest,) if lowest else ():
        doses[kind] = (dose, max(dose, doses[kind][1]))
    for kind, dose in (highest,) if highest else ():
        doses[kind] = (min(dose, doses[kind][0]), dose)
    if max_cells is None:
        cells = max([MOST_CELLS, *(r.cells_per_kg for r in own)])
    else:
        amount = parse_dose(max_cells, what="--max-cells")
        amount.check_kind("cells", "--max-cells")
        cells = amount.per_kilogram(weight)
    visits = max([MOST_VISITS, *(r.n_doses for r in own)]) if max_visits is None else max_visits
    if isinstance(visits, bool) or not isinstance(visits, int) or not 1 <= visits <= LARGEST_VISITS:
        raise RunError(f"--max-visits must be a whole number from 1 to {LARGEST_VISITS}, got {max_visits!r}.")
    if min_interval is None:
        interval = min([SHORTEST_INTERVAL, *(r.interval_days for r in own if r.n_doses > 1)])
    else:
        interval = parse_duration(min_interval, what="--min-interval")
        if interval >= horizon:
            raise RunError(
                f"--min-interval: given {min_interval}, not shorter than the horizon of {format_duration(horizon)}, so that "
                "no second dose would be seen. Shorten the interval, lengthen --horizon, or allow one visit with "
                "--max-visits 1 alone."
            )
    if max_risk is not None and not (
        isinstance(max_risk, int | float) and not isinstance(max_risk, bool) and 0 < max_risk <= 1
    ):
        raise RunError(
            f"--max-risk must be above 0 and at most 1 (full rejection of a further dose), got {max_risk!r}. For none "
            "at all choose products that do not sensitise."
        )
    return Limits(cells, visits, interval, horizon, doses, max_risk)


def _range(kind: DoseKind, own: Sequence[Regimen], scenario: Scenario) -> tuple[float, float]:
    mine = [r.dose for r in own if r.kind == kind]
    if scenario.subject.species != "human":
        # assumed: an animal's dose range is what its scenario gives, a factor of three either way.
        low, high = (min(mine) / 3, max(mine) * 3) if mine else DOSES[kind]
        return _two_digits(low, 0.0, low), _two_digits(high, low, high)
    low, high = DOSES[kind]
    return min([low, *mine]), max([high, *mine])


def _dose(text: str, weight: float, scenario: Scenario, option: str) -> tuple[DoseKind, float]:
    """Of which kind a dose is, as its unit says, and how much that is per kg in the unit of the kind."""
    amount = parse_dose(text, what=option)
    kind: DoseKind = "ev"
    if amount.unit != "particles":
        kind = next((k for k in DOSES if amount.unit == DOSE_UNITS[k]), "cells")
    per_kg = amount.per_kilogram(weight)
    if amount.unit == "particles":
        per_kg /= DoseAmount(1.0, DOSE_UNITS["ev"], True).model_amount("ev", 1.0) * MODEL_SCALE["ev"]
    people = scenario.subject.species == "human"
    most = (LARGEST_HUMAN_AMOUNT if people else LARGEST_AMOUNT)[kind]
    in_model = DoseAmount(per_kg, DOSE_UNITS[kind], True).model_amount(kind, 1.0)
    if in_model > most:
        raise RunError(
            f"{option}: given {text}, that is {short(in_model * MODEL_SCALE[kind])} {BURDEN_UNITS[kind]} at {weight:g} kg. "
            f"Allowed: up to {short(most * MODEL_SCALE[kind])}. A total is written without '/kg'."
        )
    return kind, per_kg


def short(value: float) -> str:
    """A dose in two digits, as people write it.

    >>> short(3260869.6), short(1e6), short(100.0)
    ('3.3e6', '1e6', '100')
    """
    return format_dose(DoseAmount(float(f"{value:.1e}"), "", False))


# --------------------------------------------------------------------------- the space


@dataclass(frozen=True)
class Space:
    """What the limits leave of some products by some routes."""

    pairs: tuple[tuple[str, str], ...]
    limits: Limits
    infusions: Mapping[str, float]

    @classmethod
    def of(
        cls, scenario: Scenario, limits: Limits, products: Sequence[str] | None, routes: Sequence[str] | None
    ) -> Space:
        """The space of a scenario; products and routes of its arms where none are given.

        Raises
        ------
        RunError
            For an unknown name, or where nothing is left.
        """
        courses = [c for a in scenario.arms for c in a.courses]
        names = tuple(dict.fromkeys(products or (c.product for c in courses)))
        ways = tuple(dict.fromkeys(routes or (c.route for c in courses)))
        for name in names:
            if name not in PRODUCTS:
                raise RunError(f"unknown product {name!r}.{nearest(name, PRODUCTS)}")
        for way in ways:
            if way not in ROUTES:
                raise RunError(f"unknown route {way!r}.{nearest(way, ROUTES)}")
        if not names or not ways:
            raise RunError(
                f"scenario {scenario.name!r} gives no product. Name some with --products, and --routes, such as "
                "--products UC --routes IV."
            )
        pairs = tuple((n, w) for n in names for w in ways if w in PRODUCTS[n].routes)
        if not pairs:
            told = "; ".join(f"{n}: {', '.join(PRODUCTS[n].routes)}" for n in names)
            raise RunError(
                f"no product can be given this way: products {', '.join(names)}, routes {', '.join(ways)}. Allowed: {told}."
            )
        # Longer than the shortest interval no infusion may last, or two of them would overlap.
        given = {c.route: c.infusion_days for c in courses}
        longest = limits.interval_days
        infusions = {w: min(given.get(w, INFUSION_DAYS.get(w, 0.0)), longest) for w in ways}
        space = cls(pairs, limits, infusions)
        space._check(scenario)
        return space

    def _check(self, scenario: Scenario) -> None:
        limits = self.limits
        cells = [p for p, _ in self.pairs if PRODUCTS[p].kind == "cells"]
        low = limits.doses["cells"][0]
        if cells and limits.cells_per_kg < low * (1 - 1e-9):
            raise RunError(
                f"--max-cells: given {short(limits.cells_per_kg)} cells/kg at {scenario.weight_kg:g} kg in all, below the "
                f"smallest single dose of {short(low)} cells/kg. Allow more cells, or smaller doses with --min-dose."
            )

    @property
    def products(self) -> tuple[str, ...]:
        """Each once."""
        return tuple(dict.fromkeys(p for p, _ in self.pairs))

    @property
    def routes(self) -> tuple[str, ...]:
        """Each once."""
        return tuple(dict.fromkeys(w for _, w in self.pairs))

    def largest_dose(self, product: str, n_doses: int) -> float:
        """The largest of `n_doses` doses, per kg."""
        kind = PRODUCTS[product].kind
        high = self.limits.doses[kind][1]
        return min(high, self.limits.cells_per_kg / n_doses) if kind == "cells" else high

    def longest_interval(self, route: str, n_doses: int) -> float:
        """The longest interval in days at which `n_doses` still end before the horizon, whole days if there are any."""
        room = (self.limits.horizon_days - self.infusions[route]) * (1 - 1e-9) / max(n_doses - 1, 1)
        longest = min(room, max(LONGEST_INTERVAL, self.limits.interval_days))
        return math.floor(longest) if math.floor(longest) >= self.limits.interval_days else longest

    def most_doses(self, product: str, route: str) -> int:
        """The most doses that the limits allow."""
        kind = PRODUCTS[product].kind
        low, n = self.limits.doses[kind][0], 1
        while (
            n < self.limits.visits
            and self.largest_dose(product, n + 1) >= low * (1 - 1e-9)
            and self.longest_interval(route, n + 1) >= self.limits.interval_days
        ):
            n += 1
        return n

    def regimen(self, product: str, route: str, dose: float, n_doses: int, interval_days: float) -> Regimen:
        """A regimen of these numbers, with the route's infusion."""
        return Regimen(
            product, route, dose, n_doses, interval_days if n_doses > 1 else 0.0, self.infusions[route]
        )

    def at(self, product: str, route: str, point: Sequence[float]) -> Regimen:
        """The regimen at (dose, number, interval): the first and last from 0, the smallest, to 1, the largest.

        Doses to two digits, intervals in whole days where the limits leave one: what a protocol would write.
        """
        n = int(min(max(round(point[1]), 1), self.most_doses(product, route)))
        kind = PRODUCTS[product].kind
        low, high = self.limits.doses[kind][0], self.largest_dose(product, n)
        dose = float(low * (high / low) ** min(max(point[0], 0.0), 1.0))
        near, far = self.limits.interval_days, self.longest_interval(route, n)
        interval = float(near * (far / near) ** min(max(point[2], 0.0), 1.0))
        return self.regimen(product, route, _two_digits(dose, low, high), n, _whole(interval, near, far))

    def place(self, regimen: Regimen) -> tuple[float, float, float]:
        """The point of a regimen (`at`)."""
        low = self.limits.doses[regimen.kind][0]
        high = self.largest_dose(regimen.product, regimen.n_doses)
        near, far = self.limits.interval_days, self.longest_interval(regimen.route, regimen.n_doses)

        def share(value: float, a: float, b: float) -> float:
            return (
                float(np.clip(math.log(value / a) / math.log(b / a), 0.0, 1.0))
                if b > a and value > 0
                else 0.0
            )

        return share(regimen.dose, low, high), float(regimen.n_doses), share(regimen.interval_days, near, far)

    def numbers(self, product: str, route: str) -> tuple[int, ...]:
        """Numbers of doses on the grid."""
        most = self.most_doses(product, route)
        return tuple(sorted({n for n in GRID_NUMBERS if n <= most} | {most}))

    def doses(self, product: str, route: str) -> tuple[float, ...]:
        """Doses on the grid, per kg: evenly spread, and those that divide the largest total into each number."""
        kind = PRODUCTS[product].kind
        low, high = self.limits.doses[kind]
        high = min(high, self.largest_dose(product, 1))
        kept = {
            _two_digits(self.largest_dose(product, n), low, high) for n in self.numbers(product, route)
        } | {low}
        for dose in (_two_digits(float(d), low, high) for d in np.geomspace(low, high, GRID_DOSES)):
            if all(abs(math.log(dose / other)) > math.log(NEAR) for other in kept):
                kept.add(dose)
        return tuple(sorted(kept))

    def intervals(self, route: str) -> tuple[float, ...]:
        """Intervals on the grid, days."""
        near = self.limits.interval_days
        return tuple(near * k for k in GRID_INTERVALS)

    def grid(self) -> Iterator[Regimen]:
        """Dose by number by interval, of every product and route, as far as the limits go."""
        for product, route in self.pairs:
            for n, dose in itertools.product(self.numbers(product, route), self.doses(product, route)):
                if dose > self.largest_dose(product, n) * (1 + 1e-9):
                    continue
                for interval in self.intervals(route) if n > 1 else (0.0,):
                    regimen = self.regimen(product, route, dose, n, interval)
                    if self.limits.keeps(regimen):
                        yield regimen


def _two_digits(value: float, low: float, high: float) -> float:
    """The value to two digits, downwards, so that a limit on the total holds; inside the limits."""
    if value <= 0:
        return low
    step = 10.0 ** (math.floor(math.log10(value)) - 1)
    # Through text: 12 steps of 1e5 are no exact 1.2e6.
    rounded = float(f"{math.floor(value / step * (1 + 1e-12)) * step:.1e}")
    return float(min(max(rounded, low), high))


def _whole(days: float, near: float, far: float) -> float:
    rounded = float(round(days))
    if near <= rounded <= far:
        return rounded
    return float(min(max(days, near), far))


# --------------------------------------------------------------------------- what was given to people


@dataclass(frozen=True)
class Studied:
    """The most that people were given of a product by a route in the studies of the evidence.

    dose : per kg, in the unit of its kind; n_doses : in one course; studies : their identifiers.
    """

    dose: float
    n_doses: int
    studies: tuple[str, ...]


@cache
def studied_in_people() -> Mapping[tuple[str, str], Studied]:
    """By product and route, from the maps of the studies: whether a row of theirs was fitted or not."""
    import tomllib

    found: dict[tuple[str, str], Studied] = {}
    for path in sorted(STUDY_FOLDER.glob("*.toml")):
        for study in tomllib.loads(path.read_text(encoding="utf-8")).get("study", ()):
            patient = study.get("patient", {})
            for arm in study.get("arm", ()):
                own = patient | arm.get("patient", {})
                product = arm.get("product")
                if not product or own.get("species", "human") != "human":
                    continue
                course = Course(product, arm["route"], str(arm["dose"]), tuple(arm.get("days", (0,))))
                given = regimen_of(
                    Arm("a", (course.replace(days=(0.0,)),)), float(own.get("weight_kg", 70.0))
                )
                assert given is not None  # one dose is always a regimen
                before = found.get((product, arm["route"]), Studied(0.0, 0, ()))
                found[product, arm["route"]] = Studied(
                    max(before.dose, given.dose),
                    max(before.n_doses, course.n_doses),
                    tuple(dict.fromkeys((*before.studies, study["id"]))),
                )
    return found
