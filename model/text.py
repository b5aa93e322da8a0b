"""Durations and doses as people write them: ``48w``, ``60min``, ``1e6/kg``, ``80e6``, ``100 ug/kg``.

Text is read once, at the border, into days and into a :class:`DoseAmount`; everything behind the border
computes with numbers. Formatting and reading again gives the same number, to the last bit.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

from mscrenal.model.declare import Assumed, LogNormal, Parameter, Source, nearest

__all__ = [
    "EV_PROTEIN_PER_CELL",
    "PARTICLES_PER_UG",
    "DoseAmount",
    "DoseKind",
    "DoseUnit",
    "ScenarioError",
    "format_dose",
    "format_duration",
    "parse_dose",
    "parse_duration",
]

DoseUnit = Literal["", "cells", "particles", "ug EV protein", "cell-equivalents"]
DoseKind = Literal["cells", "ev", "medium"]


class ScenarioError(ValueError):
    """A scenario, a regimen or an event table that cannot be run as it is written.

    `key` is the path of the offending entry inside the scenario (``("arm", 1, "dose")``); `file` and
    `line` say where it stands, where that is known.
    """

    def __init__(
        self, message: str, *, key: tuple[str | int, ...] = (), file: str = "", line: int | None = None
    ) -> None:
        place = f"{file}:{line}: " if file and line else f"{file}: " if file else ""
        super().__init__(place + message)
        self.message, self.key, self.file, self.line = message, key, file, line

    def under(self, *key: str | int) -> ScenarioError:
        """The same complaint, seen from the table that holds it."""
        return ScenarioError(self.message, key=(*key, *self.key), file=self.file, line=self.line)

    def at(self, file: str, line: int | None = None) -> ScenarioError:
        """The same complaint, with the place where it stands."""
        return ScenarioError(self.message, key=self.key, file=file, line=line)


# ------------------------------------------------------------------------------- what EVs weigh

PARTICLES_PER_UG = Parameter(
    name="particles_per_ug",
    value=3e9,
    unit="1/ug",
    meaning="EV particles in one microgram of EV protein",
    source=Assumed(
        why="no evidence row counts particles and protein of one product. A vesicle of 100 nm (5.2e-16 mL) "
        "at "
        "20 % protein by weight holds 1e-16 g, so a pure preparation has 1e10 particles/ug; a pellet from "
        "the "
        "ultracentrifuge carries about twice as much protein that sits in no vesicle. Plausible 3e8 to 3e10"
    ),
)
"""The one place where EV protein becomes EV particles. Fixed, because it only converts units: what is
unknown about the strength of a particle belongs to the prior of EV potency."""

EV_PROTEIN_PER_CELL = Parameter(
    name="ev_protein_per_cell",
    value=0.2,
    unit="ng",
    meaning="EV protein that does as much as one living cell (matched secretory dose)",
    prior=LogNormal.from_range(0.05, 1.0),
    source=Source("bruno2009", "table 3: 15 ug matched 75000 cells on BUN, casts and necrosis in mice"),
)
"""Used to match EV arms to cell arms: 1e6 cells/kg correspond to 200 ug EV protein/kg."""


# ------------------------------------------------------------------------------- numbers and durations

_NUMBER = r"[0-9]+(?:\.[0-9]*)?(?:[eE][+-]?[0-9]+)?|\.[0-9]+(?:[eE][+-]?[0-9]+)?"
_QUANTITY = re.compile(rf"^(?P<number>{_NUMBER})\s*(?P<unit>[^\W\d].*)?$")
_LONGEST_TEXT = 80

# In days, exactly. A month is a twelfth of the Julian year, so that 12mo = 1y.
_DAYS: Mapping[str, Fraction] = {
    "min": Fraction(1, 1440),
    "h": Fraction(1, 24),
    "d": Fraction(1),
    "w": Fraction(7),
    "mo": Fraction(1461, 48),
    "y": Fraction(1461, 4),
}
_DURATION_ALIASES: Mapping[str, str] = {
    alias: unit
    for unit, aliases in {
        "min": "min minute minutes",
        "h": "h hr hour hours",
        "d": "d day days",
        "w": "w wk week weeks",
        "mo": "mo month months",
        "y": "y yr year years",
    }.items()
    for alias in aliases.split()
}


def _split(text: str, what: str, example: str, body: str | None = None) -> tuple[Fraction, str]:
    """Number and unit of `body` (by default all of `text`, which messages show).

    The number is exact, so that 90min and 1.5h are the same day fraction.
    """
    stripped = (text if body is None else body).strip()
    if stripped.startswith("-"):
        raise ScenarioError(
            f"{what}: given {text!r}, which is negative. Write a positive one such as {example}."
        )
    match = _QUANTITY.match(stripped) if len(stripped) <= _LONGEST_TEXT else None
    if match is None:
        shown = text if len(text) <= _LONGEST_TEXT else text[:_LONGEST_TEXT] + "…"
        raise ScenarioError(
            f"{what}: given {shown!r}. Allowed: a plain number and a unit, such as {example} "
            "(a point for decimals, no thousands separators)."
        )
    number = match["number"]
    size = float(number)
    mantissa_is_zero = not re.search(r"[1-9]", re.split("[eE]", number)[0])
    # The exact arithmetic below would take for ever on 1e999999999, and no unit may lead out of range.
    if not mantissa_is_zero and not 1e-300 <= size <= 1e300:
        raise ScenarioError(
            f"{what}: given {text!r}, beyond what a computer can hold. Write one such as {example}."
        )
    return Fraction(number) if size else Fraction(0), (match["unit"] or "").strip()


def parse_duration(text: object, *, what: str = "duration", zero: bool = False) -> float:
    """Read a duration such as ``48w``, ``90d``, ``18mo``, ``60min``, ``2h`` or ``3y``.

    Parameters
    ----------
    text
        The duration; it carries its unit. A month is 365.25/12 days.
    what
        What the duration is of, for messages.
    zero
        Whether zero makes sense here (a start), or not (a horizon).

    Returns
    -------
    float
        Days.

    Raises
    ------
    ScenarioError
        No text, no or an unknown unit, negative, not a number, or zero where it makes no sense.

    Examples
    --------
    >>> parse_duration("48w"), parse_duration("90min")
    (336.0, 0.0625)
    """
    example = '"48w"'
    if not isinstance(text, str):
        raise ScenarioError(
            f"{what}: given {text!r}. Allowed: text with a unit, such as {example} (in quotes)."
        )
    number, unit = _split(text, what, example)
    if not unit:
        raise ScenarioError(
            f"{what}: given {text!r}, without a unit. Write {text.strip()}d for days, or a text such as "
            f"{example}."
        )
    if unit in ("m", "M"):
        raise ScenarioError(
            f"{what}: given {text!r}, and 'm' is ambiguous. Write 'min' for minutes or 'mo' for months."
        )
    if unit.lower() not in _DURATION_ALIASES:
        raise ScenarioError(f"{what}: given {text!r} with the unknown unit {unit!r}.{nearest(unit, _DAYS)}")
    days = float(number * _DAYS[_DURATION_ALIASES[unit.lower()]])
    if days == 0.0 and not zero:
        raise ScenarioError(
            f"{what}: given {text!r}, and zero makes no sense here. Write one such as {example}."
        )
    return days


def format_duration(days: float) -> str:
    """Write days in the largest unit that says them in a whole number; `parse_duration` gives the same days.

    Raises ScenarioError if `days` is negative or not finite.

    >>> [format_duration(days) for days in (336.0, 547.875, 60 / 1440, 0.123)]
    ['48w', '18mo', '60min', '0.123d']
    """
    if not 0 <= days < float("inf"):
        raise ScenarioError(f"duration: given {days!r} days. Allowed: a finite number, zero or more.")
    if days == 0:
        return "0d"
    # Hours come after minutes so that infusions read as in protocols (60min, 90min), up to two hours.
    for unit in ("y", "mo", "w", "d", "h", "min") if days > 2 / 24 else ("min", "h"):
        count = round(Fraction(days) / _DAYS[unit])
        if 0 < count < 10_000 and float(count * _DAYS[unit]) == days:
            return f"{count}{unit}"
    return f"{days!r}d"


# ------------------------------------------------------------------------------- doses

_DOSE_ALIASES: Mapping[str, tuple[DoseUnit, Fraction]] = {
    "": ("", Fraction(1)),
    **{alias: ("cells", Fraction(1)) for alias in ("cell", "cells")},
    **{alias: ("particles", Fraction(1)) for alias in ("particle", "particles")},
    **{
        alias: ("cell-equivalents", Fraction(1))
        for alias in ("cell-equivalent", "cell-equivalents", "cell equivalents", "cell-eq")
    },
    **{
        f"{unit}{tail}": ("ug EV protein", factor)
        for unit, factor in {
            "ng": Fraction(1, 1000),
            "ug": Fraction(1),
            "µg": Fraction(1),
            "μg": Fraction(1),
            "mg": Fraction(1000),
        }.items()
        for tail in ("", " EV protein", " protein")
    },
}
_UNITS_OF_KIND: Mapping[DoseKind, tuple[DoseUnit, ...]] = {
    "cells": ("", "cells"),
    "ev": ("particles", "ug EV protein"),
    "medium": ("", "cell-equivalents"),
}
_EXAMPLES: Mapping[DoseKind, str] = {
    "cells": '"1e6/kg" (or "80e6" for a total)',
    "ev": '"1e10 particles/kg" or "100 ug/kg" (EV protein)',
    "medium": '"1e6 cell-equivalents/kg"',
}
_KIND_NAMES: Mapping[DoseKind, str] = {"cells": "cells", "ev": "EVs", "medium": "conditioned medium"}


@dataclass(frozen=True)
class DoseAmount:
    """One administration as written: a number, its unit, and whether it is per kg of body weight.

    The unit ``""`` is a bare count (``80e6``): of cells, or of the cells that conditioned a medium.
    """

    value: float
    unit: DoseUnit
    per_kg: bool

    def __post_init__(self) -> None:
        if not (isinstance(self.value, int | float) and 0 < self.value < float("inf")):
            raise ScenarioError(f"dose: given {self.value!r}. Allowed: a finite number above zero.")

    def __str__(self) -> str:
        return format_dose(self)

    def check_kind(self, kind: DoseKind, product: str) -> None:
        """Refuse a unit that this kind of product is not dosed in (ScenarioError)."""
        if self.unit not in _UNITS_OF_KIND[kind]:
            raise ScenarioError(
                f"dose: given {format_dose(self)!r} for {product!r}, which is dosed as {_KIND_NAMES[kind]}. "
                f"Write it as {_EXAMPLES[kind]}."
            )

    def per_kilogram(self, weight_kg: float) -> float:
        """In the unit as written, per kg; a total is divided by the body weight (kg)."""
        return self.value if self.per_kg else self.value / weight_kg

    def model_amount(self, kind: DoseKind, weight_kg: float) -> float:
        """The amount that the model takes.

        Parameters
        ----------
        kind
            ``cells``, ``ev`` or ``medium``.
        weight_kg
            Body weight, kg; it matters for totals only.

        Returns
        -------
        float
            1e6 cells/kg (cells), 1e9 particles/kg (EVs; protein by `PARTICLES_PER_UG`) or 1e6
            cell-equivalents/kg (conditioned medium).
        """
        per_kg = self.per_kilogram(weight_kg)
        if self.unit == "ug EV protein":
            per_kg *= PARTICLES_PER_UG.value
        return per_kg / (1e9 if kind == "ev" else 1e6)


def parse_dose(text: object, *, what: str = "dose") -> DoseAmount:
    """Read a dose such as ``1e6/kg``, ``80e6``, ``2e6 cells/kg``, ``1e10 particles/kg`` or ``100 ug/kg``.

    Without ``/kg`` it is a total, later divided by the patient's weight. A bare number (TOML ``80e6``)
    is a total count. Micrograms are of EV protein.

    Raises ScenarioError: negative, zero, not a number, or an unknown unit.

    >>> parse_dose("2e6 cells/kg")
    DoseAmount(value=2000000.0, unit='cells', per_kg=True)
    """
    if isinstance(text, int | float) and not isinstance(text, bool):
        text = repr(float(text))
    if not isinstance(text, str):
        raise ScenarioError(
            f"{what}: given {text!r}. Allowed: text such as {_EXAMPLES['cells']}, {_EXAMPLES['ev']}."
        )
    body, slash, per = text.partition("/")
    number, unit = _split(text, what, _EXAMPLES["cells"], body)
    if slash and per.strip() != "kg":
        raise ScenarioError(
            f"{what}: given {text!r}, per {per.strip()!r}. Allowed: '/kg' for a dose per kg of body weight, "
            "nothing for a total."
        )
    spelt = " ".join(unit.split())
    for candidate in (spelt, spelt.lower()):
        if candidate in _DOSE_ALIASES:
            name, factor = _DOSE_ALIASES[candidate]
            break
    else:
        units = ("cells", "particles", "ug EV protein", "cell-equivalents")
        raise ScenarioError(
            f"{what}: given {text!r} with the unknown unit {unit!r}.{nearest(unit, units)} "
            f"A bare number is a count of cells: {_EXAMPLES['cells']}."
        )
    value = float(number * factor)
    if value == 0.0:
        raise ScenarioError(
            f"{what}: given {text!r}. A dose is above zero; an arm without a product is the placebo arm."
        )
    return DoseAmount(value, name, bool(slash))


def format_dose(dose: DoseAmount) -> str:
    """Write a dose so that `parse_dose` reads the same one.

    >>> format_dose(DoseAmount(1e6, "", True)), format_dose(DoseAmount(100.0, "ug EV protein", True))
    ('1e6/kg', '100 ug EV protein/kg')
    """
    tail = "/kg" if dose.per_kg else ""
    return f"{_count(dose.value)}{' ' if dose.unit else ''}{dose.unit}{tail}"


def _count(value: float) -> str:
    """The shortest usual spelling that reads back the same: 1e6, 80e6, 2.5e5, 100."""
    if value < 1e4:
        plain = f"{value:g}"
        return plain if float(plain) == value else repr(float(value))
    millions = f"{value / 1e6:g}e6"
    if 1e6 <= value < 1e9 and float(millions) == value:
        return millions
    mantissa, exponent = f"{value:e}".split("e")
    for digits in range(17):
        mantissa, exponent = f"{value:.{digits}e}".split("e")
        short = f"{mantissa}e{int(exponent)}"
        if float(short) == value:
            return short
    return repr(float(value))
