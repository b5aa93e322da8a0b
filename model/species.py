"""The species: body weight, healthy absolute values, pace of irreversible loss, translation of doses."""

from __future__ import annotations

from dataclasses import dataclass

from mscrenal.model.declare import (
    Assumed,
    DeclarationError,
    HalfNormal,
    LogNormal,
    Parameter,
    Prior,
    Provenance,
    Source,
    nearest,
)

__all__ = ["SPECIES", "Species", "species"]


@dataclass(frozen=True)
class Species:
    """A species as the values that it gives to parameters of the model.

    `sets` overrides parameters of scope ``species``; what is not listed keeps the human value.
    """

    name: str
    title: str
    sets: tuple[Parameter, ...]


def _set(
    name: str, value: float, unit: str, meaning: str, source: Provenance, prior: Prior | None = None
) -> Parameter:
    if prior is None:
        return Parameter(name, value, unit, meaning, source, scope="species")
    return Parameter(name, value, unit, meaning, source, prior, "species")


TEXTBOOK = Assumed(
    "textbook value of the species; no row of the tables gives it, and results are read as folds"
)
PACE = Assumed(
    "irreversible loss takes months in rodents and decades in people: beyond the allometric pace of 4 to 7, "
    "another factor of the order of the remaining ratio of life spans (about 30)"
)

HUMAN = Species(
    "human",
    "Human",
    (
        _set("body_weight", 70.0, "kg", "body weight", Assumed("overridden by the patient's own weight")),
        _set(
            "translation",
            HalfNormal(0.52).median,
            "1",
            "effect of a dose per kg relative to rodents",
            (
                Source(
                    "padjadjaran2025meta",
                    "creatinine -0.38 in animals, -0.59 (-1.92 to 0.74) in patients; TNF -35.5 against -0.74 (NS)",
                ),
                Source("packham2016", "eGFR at week 12 within noise after one dose"),
            ),
            HalfNormal(0.52),  # zero is possible: the prior must not decide that cells work in people
        ),
    ),
)

RAT = Species(
    "rat",
    "Rat",
    (
        _set("body_weight", 0.3, "kg", "body weight", TEXTBOOK),
        _set("progression", 6.0, "1", "pace of irreversible loss", PACE, LogNormal(0.5)),
        _set("egfr_from_gfr", 1.0, "1", "eGFR stands for measured GFR", Assumed("CKD-EPI is for people")),
        _set(
            "gfr_healthy",
            77.0,
            "mL/min/1.73m2",
            "healthy GFR over body surface",
            Source("kasiske1985", "2.0 mL/min; surface 0.045 m2 assumed"),
        ),
        _set("creatinine_healthy", 0.4, "mg/dL", "healthy serum creatinine", TEXTBOOK),
        _set(
            "uacr_healthy",
            30.0,
            "mg/g",
            "healthy UACR",
            Assumed("0.38 mg albumin a day (albumin_wistar_1980) over about 12 mg of creatinine"),
        ),
        _set(
            "protein_healthy",
            0.005,
            "g/day",
            "healthy 24-h urine protein",
            Source("pennell1981", "4.7 mg, female rats"),
        ),
        _set(
            "protein_per_uacr",
            4.0e-5,
            "g/day*g/mg",
            "24-h urine protein per UACR",
            Assumed("about 12 mg creatinine a day; rats excrete other proteins beside"),
        ),
        _set("bun_healthy", 18.0, "mg/dL", "healthy blood urea nitrogen", TEXTBOOK),
        _set("il6_healthy", 20.0, "pg/mL", "healthy serum IL-6", TEXTBOOK),
        _set(
            "tnf_healthy",
            12.0,
            "pg/mL",
            "healthy TNF-α",
            Source("tnf_microdialysis_stz", "renal interstitium 11.96 pg/mL; serum undetectable"),
        ),
        _set("fasting_healthy", 100.0, "mg/dL", "healthy glucose", TEXTBOOK),
        _set("eag_healthy", 110.0, "mg/dL", "healthy mean glucose", TEXTBOOK),
    ),
)

MOUSE = Species(
    "mouse",
    "Mouse",
    (
        _set("body_weight", 0.025, "kg", "body weight", TEXTBOOK),
        _set("progression", 5.0, "1", "pace of irreversible loss", PACE, LogNormal(0.5)),
        _set("egfr_from_gfr", 1.0, "1", "eGFR stands for measured GFR", Assumed("CKD-EPI is for people")),
        _set("gfr_healthy", 60.0, "mL/min/1.73m2", "healthy GFR over body surface", TEXTBOOK),
        _set("creatinine_healthy", 0.12, "mg/dL", "healthy serum creatinine", TEXTBOOK),
        _set(
            "uacr_healthy",
            40.0,
            "mg/g",
            "healthy UACR",
            Assumed("20 ug albumin a day (ove26_2004) over about 0.5 mg of creatinine"),
        ),
        _set("protein_healthy", 0.001, "g/day", "healthy 24-h urine protein", TEXTBOOK),
        _set(
            "protein_per_uacr",
            1.0e-6,
            "g/day*g/mg",
            "24-h urine protein per UACR",
            Assumed("about 0.5 mg creatinine a day; mice excrete other proteins beside"),
        ),
        _set("bun_healthy", 30.0, "mg/dL", "healthy blood urea nitrogen", Source("bruno2009", "30 (SD 10)")),
        _set("il6_healthy", 10.0, "pg/mL", "healthy serum IL-6", TEXTBOOK),
        _set("tnf_healthy", 10.0, "pg/mL", "healthy serum TNF-α", TEXTBOOK),
        _set(
            "fibrosis_healthy",
            4.0,
            "percent",
            "healthy matrix area",
            Source("antitgfb_dbdb_2003", "mesangium 4.01 %"),
        ),
        _set("fasting_healthy", 130.0, "mg/dL", "healthy glucose", TEXTBOOK),
        _set("eag_healthy", 150.0, "mg/dL", "healthy mean glucose", TEXTBOOK),
    ),
)

PIG = Species(
    "pig",
    "Pig",
    (
        _set("body_weight", 50.0, "kg", "body weight", TEXTBOOK),
        _set(
            "translation",
            0.6,
            "1",
            "effect of a dose per kg relative to rodents",
            Assumed("between rodent and human"),
            LogNormal(0.7),
        ),
        _set("progression", 2.0, "1", "pace of irreversible loss", PACE, LogNormal(0.5)),
        _set("egfr_from_gfr", 1.0, "1", "eGFR stands for measured GFR", Assumed("CKD-EPI is for people")),
        _set("gfr_healthy", 90.0, "mL/min/1.73m2", "healthy GFR over body surface", TEXTBOOK),
        _set("creatinine_healthy", 1.2, "mg/dL", "healthy serum creatinine", TEXTBOOK),
        _set("uacr_healthy", 10.0, "mg/g", "healthy UACR", TEXTBOOK),
        _set("protein_healthy", 0.1, "g/day", "healthy 24-h urine protein", TEXTBOOK),
    ),
)

SPECIES: dict[str, Species] = {s.name: s for s in (HUMAN, RAT, MOUSE, PIG)}


def species(name: str) -> Species:
    """The species of that name; DeclarationError, with the nearest names, if there is none."""
    if name not in SPECIES:
        raise DeclarationError(f"No species {name!r}.{nearest(name, SPECIES)}")
    return SPECIES[name]
