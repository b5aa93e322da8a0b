"""report.html: one file that can be mailed, archived and printed; no network, no scripts."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from html import escape
from importlib import import_module
from typing import Any

from mscrenal.app.console import DISCLAIMER, TextTable, text_tables
from mscrenal.scenarios.style import house_style

__all__ = ["render"]

STYLE = """
:root { color-scheme: light; }
body { font: 15px/1.5 "Helvetica Neue", Arial, "DejaVu Sans", sans-serif; color: #222; background: #fff;
       max-width: 1080px; margin: 2rem auto; padding: 0 1.25rem; }
h1 { font-size: 1.55rem; line-height: 1.25; margin: 0 0 .3rem; }
h2 { font-size: 1.12rem; margin: 2.1rem 0 .5rem; padding-bottom: .2rem; border-bottom: 1px solid #ccc; }
h3 { font-size: .98rem; margin: 1.3rem 0 .4rem; }
.question { font-size: 1.08rem; color: #333; margin: .2rem 0 .8rem; }
.stamp { color: #555; font-size: .85rem; }
.warning { border-left: 4px solid #d55e00; background: #fdf4ee; padding: .5rem .8rem; margin: 1rem 0; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-size: .84rem; margin: .3rem 0; }
th { text-align: right; vertical-align: bottom; border-bottom: 1.5px solid #444; padding: .25rem .7rem; }
td { text-align: right; vertical-align: top; border-bottom: 1px solid #e4e4e4; padding: .25rem .7rem;
     font-variant-numeric: tabular-nums; white-space: pre-line; }
td.word, th.word { text-align: left; }
td.number { white-space: pre; }
th { white-space: pre-line; }
.note { color: #555; font-size: .84rem; }
figure { margin: 1.2rem 0; break-inside: avoid; }
figure img { width: 100%; height: auto; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .15rem 1rem; font-size: .86rem; }
dt { color: #555; } dd { margin: 0; overflow-wrap: anywhere; }
li { margin: .15rem 0; }
@media print {
  body { font-size: 10pt; max-width: none; margin: 0; padding: 0; }
  h2 { break-after: avoid; } tr { break-inside: avoid; } .scroll { overflow: visible; }
  table { font-size: 7pt; } th, td { padding: .15rem .3rem; } td.number { white-space: pre-line; }
  @page { size: A4; margin: 14mm; }
}
"""

FIGURE_TITLES = {
    "time_courses": "Time courses",
    "cells": "Cells per organ",
    "forest": "Differences from the reference",
    "dose_frequency": "Dose by schedule",
    "patients": "Spread between patients",
    "attribution": "What carries the effect",
    "indices": "Sobol indices",
    "tornado": "One parameter at a time",
    "shortlist": "The regimens that met all draws",
    "pareto": "Gain against burden",
    "response_surface": "Dose by number by interval",
    "sensitisation": "Repetition and sensitisation",
    "value_of_information": "What knowing more is worth",
    "posterior": "What the data say of each parameter",
    "predicted_observed": "Published values in their predictive intervals",
    "pit": "Where published values lie in their predictive distributions",
    "coverage": "Shares inside the intervals",
    "assurance": "Probability of a significant result, by size",
    "effects": "What a trial of this size would see",
}


def render(result: Any) -> str:
    """A result as one self-contained HTML document."""
    parts = [
        f"<h1>{escape(result.title)}</h1>",
        f'<p class="question">{escape(result.question)}</p>' if result.question else "",
        f'<p class="stamp">{escape(_stamp(result))}</p>',
        f'<p class="warning"><strong>{escape(DISCLAIMER)}</strong> {escape(_origin_words(result))}</p>',
        *_scenario(result),
        *_list("Assumptions", result.assumptions, "None recorded."),
        *_figures(result),
        *_tables(text_tables(result)),
        *_list(
            "Extrapolated: class priors, rodents only, or beyond the horizon",
            result.extrapolated,
            "Nothing recorded.",
        ),
        *_failures(result.failures, getattr(result, "n_failed", len(result.failures))),
        *_provenance(result.provenance),
    ]
    title = escape(f"mscrenal {result.command}: {result.title}")
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{title}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n"
        + "\n".join(part for part in parts if part)
        + "\n</body>\n</html>\n"
    )


def _stamp(result: Any) -> str:
    version = result.provenance.get("version", "")
    words = [f"mscrenal {version} {result.command}".replace("  ", " ")]
    for key in ("created", "date", "time"):
        if key in result.provenance:
            words.append(str(result.provenance[key]))
            break
    if hasattr(result, "band_note"):
        words.append(result.band_note)
    return " · ".join(words)


def _origin_words(result: Any) -> str:
    origin = getattr(result, "origin", "")
    if origin == "prior":
        return (
            "The bands rest on priors: what was known of each parameter before the model as a whole "
            "was fitted to data."
        )
    if origin == "posterior":
        words = import_module("mscrenal.scenarios.sources").origin_words(result.provenance)
        return f"The bands rest on the {words}: priors updated by the evidence tables."
    return ""


def _scenario(result: Any) -> list[str]:
    scenario = getattr(result, "scenario", None)
    if scenario is None:
        return []
    entries = {
        "Scenario": scenario.name,
        "Source": scenario.source or "–",
        "Horizon": f"{scenario.horizon_days:g} days",
        "Reference": scenario.reference,
        **_subject(scenario),
    }
    notes = [f'<p class="note">{escape(str(note))}</p>' for note in getattr(scenario, "notes", ())]
    return ["<h2>Scenario</h2>", _definitions(entries), *notes]


def _subject(scenario: Any) -> dict[str, str]:
    """The patient's covariates, or the population's size and drugs, whichever the scenario has."""
    patient, population = getattr(scenario, "patient", None), getattr(scenario, "population", None)
    if patient is not None:
        given = {
            "Species": patient.species,
            "Disease": patient.disease,
            "Age": _unit(patient.age, "years"),
            "Sex": patient.sex,
            "Weight": _unit(patient.weight_kg, "kg"),
            "eGFR": _unit(patient.egfr, "mL/min/1.73 m²"),
            "UACR": _unit(patient.uacr, "mg/g"),
            "HbA1c": _unit(patient.hba1c, "%"),
            "Background drugs": ", ".join(patient.drugs) or "none",
        }
        return {key: value for key, value in given.items() if value}
    if population is not None:
        return {
            "Population": f"{population.disease}, {population.n} in the scenario",
            "Background drugs": ", ".join(population.drugs) or "none",
        }
    return {}


def _unit(value: float | None, unit: str) -> str:
    return "" if value is None else f"{value:g} {unit}"


def _definitions(entries: dict[str, str]) -> str:
    rows = "".join(f"<dt>{escape(str(k))}</dt><dd>{escape(str(v))}</dd>" for k, v in entries.items())
    return f"<dl>{rows}</dl>"


MOST_COLUMNS = 3  # of numbers side by side: what fits on an A4 page


def _tables(tables: Sequence[TextTable]) -> list[str]:
    made = ["<h2>Tables</h2>"]
    for table in tables:
        made.append(f"<h3>{escape(table.title)}</h3>")
        others = list(range(1, len(table.headings)))
        # Tables of numbers go on below, the first column repeated; words wrap and need no splitting.
        size = MOST_COLUMNS if len(table.left) == 1 else max(len(others), 1)
        for start in range(0, max(len(others), 1), size):
            made.append(_block(table, [0, *others[start : start + size]]))
        if table.note:
            made.append(f'<p class="note">{escape(table.note)}</p>')
    return made


def _block(table: TextTable, columns: Sequence[int]) -> str:
    head = "".join(f"<th{_kind(table, i, heading=True)}>{escape(table.headings[i])}</th>" for i in columns)
    body = "\n".join(
        f"<tr>{''.join(f'<td{_kind(table, i)}>{escape(row[i])}</td>' for i in columns)}</tr>"
        for row in table.rows
    )
    rows = f"<thead><tr>{head}</tr></thead>\n<tbody>\n{body}\n</tbody>"
    return f'<div class="scroll"><table>\n{rows}</table></div>'


def _kind(table: TextTable, place: int, *, heading: bool = False) -> str:
    if place in table.left:
        return ' class="word"'
    return "" if heading else ' class="number"'


def _figures(result: Any) -> list[str]:
    made = []
    for name, figure in result.plot().items():
        buffer = io.BytesIO()
        with house_style():
            figure.savefig(buffer, format="svg", metadata={"Date": None})
        # As an image, not inline markup: the identifiers of two figures' glyphs would collide in one page.
        data = base64.b64encode(buffer.getvalue()).decode("ascii")
        known = next((title for key, title in FIGURE_TITLES.items() if name.endswith(key)), name)
        width = round(figure.get_size_inches()[0] * 80)
        made.append(
            f"<figure><h3>{escape(known)}</h3>"
            f'<img alt="{escape(known)}: {escape(result.title)}" style="max-width:{width}px" '
            f'src="data:image/svg+xml;base64,{data}"></figure>'
        )
    return ["<h2>Figures</h2>", *made] if made else []


def _list(title: str, notes: Sequence[str], none: str) -> list[str]:
    heading = f"<h2>{escape(title)}</h2>"
    if not notes:
        return [heading, f'<p class="note">{escape(none)}</p>']
    return [heading, "<ul>" + "".join(f"<li>{escape(str(note))}</li>" for note in notes) + "</ul>"]


def _failures(failures: Sequence[Any], total: int) -> list[str]:
    if not failures:
        return ["<h2>Failed subjects</h2>", '<p class="note">None.</p>']
    keys = list(failures[0])
    rows = tuple(tuple("" if f[key] is None else str(f[key]) for key in keys) for f in failures)
    words = frozenset(range(len(keys)))
    more = "" if total == len(failures) else f", of which the first {len(failures)}"
    table = TextTable(f"{total:,} left out of the statistics{more}", tuple(keys), rows, words)
    return ["<h2>Failed subjects</h2>", *_tables([table])[1:]]


def _provenance(provenance: Any) -> list[str]:
    skipped = ("extrapolated", "assumptions", "by_prior_alone", "treated_studies", "verdicts")
    flat: dict[str, str] = {}
    for key, value in provenance.items():
        if key in skipped:
            continue
        if isinstance(value, dict):
            flat |= {f"{key}: {inner}": str(v) for inner, v in value.items() if inner not in skipped}
        else:
            flat[str(key)] = ", ".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)
    return ["<h2>Provenance</h2>", _definitions(flat)]
