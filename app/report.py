"""report.html: one file that can be mailed, archived and printed; no network, no scripts.

What stands in it is gathered here and laid out by the template ``report.html`` and its ``report.css``, which Jinja fills
in; everything that came from a user is escaped there.
"""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from importlib.metadata import PackageNotFoundError, metadata
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from mscrenal.app.answers import answer, moment, question
from mscrenal.app.console import DISCLAIMER, TextTable, regimen_table, text_tables
from mscrenal.app.reading import MODEL_ASSUMPTIONS, PRODUCT_FREE, figure_words, glossary
from mscrenal.scenarios.style import house_style

if TYPE_CHECKING:
    from jinja2 import Template
    from matplotlib.figure import Figure

__all__ = ["render"]

SOFTWARE = "mscrenal: in-silico mesenchymal stromal cell therapy in kidney disease"  # as CITATION.cff has it
MOST_SVG = 900_000  # bytes; a figure with more (hundreds of curves) goes in as PNG
PNG_DPI = 170
LEGIBLE = 0.75  # of a figure's own size; printed smaller it goes on a turned page if that helps
LINE = 150  # letters that fit side by side on a portrait page of A4
MOST_DAYS = 12  # dose days told one by one


def render(result: Any, *, command_line: str = "") -> str:
    """A result as one self-contained HTML document.

    Parameters
    ----------
    result : Result
        What a command hands back.
    command_line : str
        The command that gives it again, if there is one (`mscrenal.app.command_line`).

    Returns
    -------
    str
        The document: no script, no network, figures as data URIs, print styles.
    """
    scenarios = [_scenario(result, scenario) for scenario in _scenarios(result)]
    tables = [
        _Made(_blocks(table), table.note)
        for table in text_tables(result)
        if not table.title.startswith("Regimens: ")  # they stand with the scenario
    ]
    told = {
        "answer": answer(result),
        "question": question(result),
        "origin": _origin_words(result),
        "stamp": _stamp(result),
        # What a scenario's file says of itself stands with the scenario.
        "assumptions": [str(n) for n in result.assumptions if not any(n in s.notes for s in scenarios)],
        "extrapolated": [str(note) for note in result.extrapolated],
    }
    figures = [_figure(name, figure) for name, figure in result.plot().items()]
    failures = list(result.failures)
    texts = [
        *told["answer"], str(told["question"]), str(told["stamp"]), *told["assumptions"], *told["extrapolated"],
        *(figure.title + figure.reading for figure in figures),
        *(cell.text for made in tables for block in made.blocks for cell in block.head),
        *(row[0].text for made in tables for block in made.blocks for row in block.rows),
        *(made.note for made in tables),
    ]  # fmt: skip
    contents = [
        ("extrapolated", "Extrapolated"),
        *([("scenario", "Scenario" if len(scenarios) == 1 else "Scenarios")] if scenarios else []),
        *([("figures", "Figures")] if figures else []),
        *[
            ("tables", "Tables"),
            ("assumptions", "Assumptions"),
            ("failed", "Failed subjects"),
            ("words", "Words"),
        ],
        *[("provenance", "Provenance"), ("cite", "How to cite")],
    ]
    terms = glossary(texts, _products(result))
    return _template().render(
        told
        | {
            "title": result.title,
            "made_by": _made_by(result),
            "disclaimer": DISCLAIMER,
            "style": _style(_made_by(result)),
            "contents": [(key, name) for key, name in contents if key != "words" or terms],
            "scenarios": scenarios,
            "figures": figures,
            "tables": tables,
            "model_assumptions": () if result.command in PRODUCT_FREE else MODEL_ASSUMPTIONS,
            "failures": _failures(failures, getattr(result, "n_failed", len(failures))),
            "terms": terms,
            "command_line": command_line,
            "provenance": _provenance(result.provenance),
            "citation": _citation(result),
        }
    )


@cache
def _template() -> Template:
    # Imported here: --help answers without it.
    from jinja2 import Environment, StrictUndefined

    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    environment.filters["linked"] = _linked
    return environment.from_string(files("mscrenal.app").joinpath("report.html").read_text(encoding="utf-8"))


def _style(foot: str) -> str:
    """The style sheet, with what stands at the foot of printed pages."""
    # Nothing but words, as it goes into a string of CSS.
    plain = re.sub(r"[^\w .,+-]", "", f"{foot}. {DISCLAIMER}")
    sheet = files("mscrenal.app").joinpath("report.css").read_text(encoding="utf-8")
    return sheet.replace("{{ foot }}", plain)


_DOI = re.compile(r"doi:(10\.\d{4,9}/[^\s;,()\"<>]*[^\s;,()\"<>.:])")


def _linked(text: Any) -> Iterator[tuple[str, str]]:
    """The text in parts, each with where it leads ('' for nowhere): DOIs are links.

    >>> list(_linked("Inker 2019, doi:10.1681/ASN.2019010007."))[1]
    ('doi:10.1681/ASN.2019010007', 'https://doi.org/10.1681/ASN.2019010007')
    """
    text, done = str(text), 0
    for match in _DOI.finditer(text):
        yield text[done : match.start()], ""
        yield match.group(), f"https://doi.org/{match.group(1)}"
        done = match.end()
    yield text[done:], ""


# --------------------------------------------------------------------------- heading


def _version(result: Any) -> str:
    """The version that computed the result; of several scenarios the first's."""
    parts = [result.provenance, *(v for v in result.provenance.values() if isinstance(v, Mapping))]
    return next((str(part["version"]) for part in parts if "package" in part and "version" in part), "")


def _made_by(result: Any) -> str:
    return " ".join(word for word in ("mscrenal", _version(result), result.command) if word)


def _stamp(result: Any) -> str:
    words = [_made_by(result)]
    words += [str(result.provenance[key]) for key in ("created", "date", "time") if key in result.provenance][
        :1
    ]
    if hasattr(result, "band_note"):
        words.append(result.band_note)
    return " · ".join(words)


def _origin_words(result: Any) -> str:
    if result.command in PRODUCT_FREE:
        return ""
    inner = next((v for v in result.provenance.values() if isinstance(v, Mapping) and "origin" in v), {})
    found = (
        result.provenance if "origin" in result.provenance else inner
    )  # a series has one for each scenario
    origin = found.get("origin", "")
    if origin == "prior":
        return "The bands rest on priors: what was known of each parameter before the model as a whole was fitted to data."
    if origin == "posterior":
        words = import_module("mscrenal.scenarios.sources").origin_words(found)
        return f"The bands rest on the {words}: priors updated by the evidence tables."
    return ""


# --------------------------------------------------------------------------- scenario


@dataclass(frozen=True)
class _Scenario:
    title: str
    entries: list[tuple[str, str]]
    regimens: _Block
    notes: tuple[str, ...]


def _scenarios(result: Any) -> list[Any]:
    """The scenarios that were simulated: one, of a series each, none of a result without."""
    found = [getattr(part, "scenario", None) for part in getattr(result, "results", None) or (result,)]
    return [scenario for scenario in found if scenario is not None]


def _arms(result: Any, scenario: Any) -> tuple[str, ...] | None:
    """The arms that the result speaks of; None: all."""
    if result.command == "trial":
        return tuple(result.design.arms)
    if result.command in ("explain", "sensitivity"):
        return (scenario.reference, str(result.arm))
    return None


def _scenario(result: Any, scenario: Any) -> _Scenario:
    own = str(scenario.question) if str(scenario.question) != question(result) else ""
    visits = tuple(scenario.visits)
    entries = {
        "Scenario": f"{scenario.name}: {scenario.title}",
        "Its question": own,
        "Source": scenario.source or "–",
        **_subject(scenario),
        "Horizon": moment(scenario.horizon_days),
        "Visits": f"{len(visits)}, from {moment(visits[0])} to {moment(visits[-1])}" if visits else "",
        "Reference arm": scenario.reference,
    }
    arms = _arms(result, scenario)
    table = regimen_table(scenario, scenario.title, arms)
    chosen = [arm for arm in scenario.arms if arms is None or arm.name in arms]
    days = [_days(tuple(arm.dose_days)) for arm in chosen]
    table = TextTable(
        table.title, (*table.headings, "Dose days"),
        tuple((*row, told) for row, told in zip(table.rows, days, strict=True)), frozenset({*table.left, 7}),
    )  # fmt: skip
    (block,) = _blocks(table)
    notes = tuple(str(note) for note in getattr(scenario, "notes", ()))
    return _Scenario(str(scenario.title), [(k, v) for k, v in entries.items() if v], block, notes)


def _days(days: tuple[float, ...]) -> str:
    shown = ", ".join(f"{day:g}" for day in days[:MOST_DAYS])
    return f"{shown}, … {days[-1]:g}" if len(days) > MOST_DAYS else shown or "–"


def _subject(scenario: Any) -> dict[str, str]:
    """The patient's covariates, or the population's distributions, whichever the scenario has."""
    patient, population = getattr(scenario, "patient", None), getattr(scenario, "population", None)
    if patient is not None:
        given = {
            "Species": patient.species,
            "Disease": _title("DISEASES", patient.disease),
            "Age": _unit(patient.age, "years"),
            "Sex": patient.sex,
            "Weight": _unit(patient.weight_kg, "kg"),
            "eGFR": _unit(patient.egfr, "mL/min/1.73 m²"),
            "UACR": _unit(patient.uacr, "mg/g"),
            "HbA1c": _unit(patient.hba1c, "%"),
            "Background drugs": ", ".join(_title("DRUGS", name) for name in patient.drugs) or "none",
        }
        return {key: value for key, value in given.items() if value}
    if population is not None:
        covariates = {name: _spread(item) for name, item in getattr(population, "covariates", {}).items()}
        return {
            "Population": f"{_title('DISEASES', population.disease)}, {population.n} in the scenario",
            **covariates,
            "Background drugs": ", ".join(_title("DRUGS", name) for name in population.drugs) or "none",
        }
    return {}


def _spread(item: Any) -> str:
    """A distribution in words: its centre, and the limits that the eligible keep."""
    low, high = float(item.low), float(item.high)
    limits = [f"{word} {end:g}" for word, end in (("from", low), ("to", high)) if abs(end) < 1e9]
    return f"{item.kind if hasattr(item, 'kind') else ''} around {item.centre:g} {' '.join(limits)}".strip()


def _title(table: str, name: str) -> str:
    """The model's name of a disease or drug, with the key that a scenario file has."""
    known = getattr(import_module("mscrenal.model"), table).get(name)
    return str(name) if known is None else f"{known.title} ({name})"


def _unit(value: float | None, unit: str) -> str:
    return "" if value is None else f"{value:g} {unit}"


def _products(result: Any) -> list[str]:
    """Products that are given in the result's arms."""
    found: dict[str, None] = {}
    for scenario in _scenarios(result):
        for arm in scenario.arms:
            found |= dict.fromkeys(getattr(arm, "products", None) or (arm.product,))
    return list(found)


# --------------------------------------------------------------------------- tables


@dataclass(frozen=True)
class _Cell:
    text: str
    word: bool


@dataclass(frozen=True)
class _Block:
    """Columns of a table that stand side by side; `wide`: on a page of their own, turned, when printed."""

    caption: str
    head: list[_Cell]
    rows: list[list[_Cell]]
    wide: bool


@dataclass(frozen=True)
class _Made:
    blocks: list[_Block]
    note: str


def _blocks(table: TextTable) -> list[_Block]:
    """A table as wide as a page: numbers go on below, the first column repeated; words wrap."""
    widths = [
        max(
            len(line)
            for text in (table.headings[c], *(row[c] for row in table.rows))
            for line in text.split("\n")
        )
        + 3
        for c in range(len(table.headings))
    ]
    others = list(range(1, len(widths)))
    parts: list[list[int]] = [[]]
    if len(table.left) > 1:
        parts = [others]
    else:
        for column in others:
            if parts[-1] and sum(widths[c] for c in (0, *parts[-1], column)) > LINE:
                parts.append([])
            parts[-1].append(column)
    # Words wrap to about this much; of numbers nothing can be saved.
    narrow = [min(w, 34) if c in table.left else w for c, w in enumerate(widths)]
    return [
        _Block(
            table.title if place == 0 else f"{table.title} (continued)",
            [_Cell(table.headings[c], c in table.left) for c in (0, *columns)],
            [_row(table, row, columns) for row in table.rows],
            sum(narrow[c] for c in (0, *columns)) > LINE + 12,
        )
        for place, columns in enumerate(parts)
    ]


def _row(table: TextTable, row: Sequence[str], columns: Sequence[int]) -> list[_Cell]:
    if len(row) > 1 and not any(row[1:]):  # a heading within the table
        return [_Cell(row[0].strip(), True)]
    return [_Cell(row[c].strip() if c == 0 else row[c], c in table.left) for c in (0, *columns)]


def _failures(failures: Sequence[Mapping[str, Any]], total: int) -> _Block | None:
    if not failures:
        return None
    keys = list(dict.fromkeys(key for failure in failures for key in failure))
    rows = tuple(
        tuple("" if failure.get(key) is None else str(failure[key]) for key in keys) for failure in failures
    )
    more = "" if total == len(failures) else f", of which the first {len(failures)}"
    title = f"{total:,} left out of the statistics{more}"
    (block,) = _blocks(TextTable(title, tuple(keys), rows, frozenset(range(len(keys)))))
    return block


# --------------------------------------------------------------------------- figures


@dataclass(frozen=True)
class _Figure:
    title: str
    reading: str
    alt: str
    data: str
    pixels: int
    wide: bool


def _figure(name: str, figure: Figure) -> _Figure:
    """The figure as a data URI: SVG, which stays sharp in print, or PNG if it has too many lines for that.

    As an image, not inline markup: the identifiers of two figures' glyphs would collide in one page.
    """
    words = figure_words(name)
    with house_style():
        svg = _drawn(figure, "svg", metadata={"Date": None})
        # Two decimals of a point are a hundredth of what a printer resolves; matplotlib writes six.
        svg = re.sub(rb' d="[^"]*"', lambda d: re.sub(rb"(\.\d\d)\d+", rb"\1", d.group()), svg)
        small = len(svg) <= MOST_SVG
        picture = svg if small else _drawn(figure, "png", dpi=PNG_DPI)
    kind = "svg+xml" if small else "png"
    width, height = (float(side) for side in figure.get_size_inches())
    upright, turned = min(7.3 / width, 8.6 / height), min(10.7 / width, 5.4 / height)  # A4 less its margins
    return _Figure(
        words.title,
        words.reading,
        _alt(name, figure),
        f"data:image/{kind};base64,{base64.b64encode(picture).decode('ascii')}",
        round(width * 80),
        upright < LEGIBLE and turned > 1.15 * upright,
    )


def _drawn(figure: Figure, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format=kind, **options)
    return buffer.getvalue()


def _alt(name: str, figure: Figure) -> str:
    """What the figure shows, for those who do not see it: its kind, its panels, what their axes measure."""
    panels = [axes for axes in figure.axes if axes.axison]
    titles = list(dict.fromkeys(_plain(axes.get_title(loc="left") or axes.get_title()) for axes in panels))
    measured = list(
        dict.fromkeys(
            _plain(text) for axes in panels for text in (axes.get_xlabel(), axes.get_ylabel()) if text
        )
    )
    told = [f"{figure_words(name).title}."]
    if any(titles):
        told.append(f"Panels: {'; '.join(title for title in titles if title)}.")
    if measured:
        told.append(f"Axes: {'; '.join(measured)}.")
    return " ".join([*told, "The numbers are in the tables."])


def _plain(text: str) -> str:
    return " ".join(text.split())


# --------------------------------------------------------------------------- provenance

# Lists that are told elsewhere or stand in provenance.json.
_NOT_SHOWN = ("extrapolated", "assumptions", "by_prior_alone", "treated_studies", "verdicts")
_LABELS = {
    "origin": "parameters drawn from", "draws": "draws", "seed": "seed", "patients": "patients",
    "scenario_hash": "hash of the scenario", "parameters_hash": "hash of the parameter draws",
    "draws_hash": "hash of the parameter draws", "model_hash": "hash of the model", "evidence_hash": "hash of the evidence tables",
    "maps_hash": "hash of the study maps", "rtol": "relative tolerance", "atol": "absolute tolerance",
}  # fmt: skip


def _provenance(provenance: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Keys and values; of a series what all scenarios share first, then what is each one's own."""
    series = [value for value in provenance.values() if isinstance(value, Mapping)]
    if len(series) != len(provenance) or not series:
        return list(_flat(provenance).items())
    each = {name: _flat(value) for name, value in provenance.items()}
    first = next(iter(each.values()))
    shared = {k: v for k, v in first.items() if all(own.get(k) == v for own in each.values())}
    rest = [(f"{name}: {k}", v) for name, own in each.items() for k, v in own.items() if k not in shared]
    return [*shared.items(), *rest]


def _flat(provenance: Mapping[str, Any], before: str = "") -> dict[str, str]:
    out: dict[str, str] = {}
    for key, value in provenance.items():
        if key in _NOT_SHOWN:
            continue
        name = f"{before}{_LABELS.get(str(key), str(key).replace('_', ' '))}"
        if isinstance(value, Mapping):
            out |= _flat(value, f"{name}: ")
        elif isinstance(value, (list, tuple)):
            out[name] = ", ".join(map(str, value))
        elif value is not None:
            out[name] = {True: "yes", False: "no"}[value] if isinstance(value, bool) else str(value)
    return out


def _citation(result: Any) -> list[str]:
    try:
        authors = str(metadata("mscrenal")["Author"] or "The mscrenal developers")
    except PackageNotFoundError:
        authors = "The mscrenal developers"
    version = f", version {_version(result)}" if _version(result) else ""
    told = [f"{authors}. {SOFTWARE}{version} [software]."]
    sources = [(s.name, s.source) for s in _scenarios(result) if s.source]
    told += [f"Source of the scenario {name}: {source}." for name, source in sources]
    told.append(
        "Cite beside it the sources of the numbers that the result rests on: mscrenal posterior lists, for each parameter, "
        "the studies that informed it."
    )
    return [re.sub(r"\.\.$", ".", line) for line in told]
