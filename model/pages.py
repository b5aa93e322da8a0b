"""The pages of the docs that are read off the model, and the command that writes them.

The command is ``python -m mscrenal.model.describe``.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from mscrenal.model.declare import DeclarationError, nearest
from mscrenal.model.describe import (
    FORMS,
    counts,
    disease_table,
    drug_table,
    equations_latex,
    number,
    parameter_table,
    process_table,
    product_table,
    species_table,
    state_table,
)
from mscrenal.model.picture import PICTURES, Detail, save_picture

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["HOW_TO_REGENERATE", "PAGES", "main", "page", "write_pages"]

HOW_TO_REGENERATE = "python -m mscrenal.model.describe pages --out docs/model"

PAGES: tuple[str, ...] = (
    "equations",
    "states",
    "parameters",
    "processes",
    "products",
    "drugs",
    "diseases",
    "species",
)
GENERATED = f"<!-- Generated from the model's definition by `{HOW_TO_REGENERATE}`: do not edit. -->"
FORMULA_TITLES = {"quantity": "Quantities", "rate": "Rates", "balance": "Balances", "observable": ""}


def _cell(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else ""
    if isinstance(value, float):
        return number(value)
    return str(value).replace("|", r"\|").replace("\n", " ")


def _markdown(table: pd.DataFrame, **headings: str) -> str:
    """A Markdown table of the columns named, under the headings given."""
    lines = ["| " + " | ".join(headings.values()) + " |", "|" + " --- |" * len(headings)]
    rows = table[list(headings)].astype(object)
    rows = rows.where(rows.notna(), "")
    lines += ["| " + " | ".join(map(_cell, row)) + " |" for row in rows.itertuples(index=False)]
    return "\n".join(lines)


def _with_range(table: pd.DataFrame) -> pd.DataFrame:
    """The table with a column of 95 % ranges as text, and symbols as inline formulas."""
    pairs = zip(table["low"], table["high"], strict=True)
    new = {"range": [f"{number(low)} to {number(high)}" if low == low else "" for low, high in pairs]}
    if "symbol" in table:
        new["symbol"] = [f"${s}$" for s in table["symbol"]]
    return table.assign(**new)


def _equations_page() -> str:
    parts = ["# Equations", FORMS]
    for module, formulas in equations_latex().items():
        parts.append(f"## {module.capitalize()}")
        for kind, title in FORMULA_TITLES.items():
            chosen = [f for f in formulas if f.kind == kind]
            if chosen and title:
                parts.append(f"### {title} of {module}")
            parts += [f"{f.meaning[:1].upper()}{f.meaning[1:]}\n\n$$\n{f.latex}\n$$" for f in chosen]
    return "\n\n".join(parts)


def _states_page() -> str:
    table = state_table()
    table["symbol"] = [f"${s}$" for s in table["symbol"]]
    parts = [
        "# States",
        "Host states are relative to health (1); cells are in millions per kg of body weight.",
    ]
    for module, rows in table.groupby("module", sort=False):
        text = _markdown(
            rows,
            name="State",
            symbol="Symbol",
            unit="Unit",
            meaning="Meaning",
            healthy="Healthy",
            start="Start",
            per_product="Per product",
            changed_by="Changed by",
        )
        parts += [f"## {str(module).capitalize()}", text]
    return "\n\n".join(parts)


def _parameters_page() -> str:
    c = counts()
    parts = [
        "# Parameters",
        f"{c['parameters']} parameters of one simulation: {c['sourced']} with a source, "
        f"{c['fitted']} fitted, {c['assumed']} assumed. "
        f"With the values of species, diseases and products, {c['sampled']} numbers are sampled. "
        "Values are medians of the prior; ranges hold its central 95 %; no range: not sampled.",
    ]
    for module, rows in _with_range(parameter_table()).groupby("module", sort=False):
        text = _markdown(
            rows,
            name="Parameter",
            symbol="Symbol",
            value="Value",
            unit="Unit",
            range="95 % range",
            prior="Prior",
            meaning="Meaning",
            kind="Rests on",
            source="Source",
            scope="Scope",
        )
        parts += [f"## {str(module)[:1].upper()}{str(module)[1:]}", text]
    return "\n\n".join(parts)


def _processes_page() -> str:
    parts = [
        "# Processes",
        "A paced process runs on the biological time of the species. Rates: see [equations](equations.md).",
    ]
    for module, rows in process_table().groupby("module", sort=False):
        text = _markdown(
            rows,
            name="Process",
            meaning="Meaning",
            changes="Changes",
            unit="Unit",
            depends_on="Depends on",
            modified_by="Modified by",
            paced="Paced",
            per_product="Per product",
        )
        parts += [f"## {str(module).capitalize()}", text]
    return "\n\n".join(parts)


def _products_page() -> str:
    table = _with_range(product_table())
    overview = table.drop_duplicates("product")
    parts = [
        "# Products",
        "Ratios are to bone-marrow MSC. *Class prior*: nothing direct is known, and the width says so.",
        _markdown(
            overview,
            product="Product",
            title="Title",
            kind_of_product="Kind",
            tissue="Tissue",
            origin="Origin",
            routes="Routes",
            dose_unit="Dose in",
        ),
    ]
    for _, rows in table.groupby("product", sort=False):
        first = rows.iloc[0]
        text = _markdown(
            rows,
            parameter="Parameter",
            value="Value",
            range="95 % range",
            basis="Basis",
            source="Source",
            meaning="Meaning",
        )
        parts += [f"## {first['product']}: {first['title']}", str(first["note"]), text]
    return "\n\n".join(parts)


def _drugs_page() -> str:
    parts = [
        "# Drugs",
        "A factor multiplies the target at the usual dose; its range is the central 95 % of the prior.",
    ]
    for name, rows in drug_table().groupby("drug", sort=False):
        pairs = [sorted(pair) for pair in zip(rows["factor_low"], rows["factor_high"], strict=True)]
        rows = rows.assign(factors=[f"{number(a)} to {number(b)}" if a == a else "" for a, b in pairs])
        first = rows.iloc[0]
        text = _markdown(
            rows,
            target="Target",
            factor="Factor",
            factors="95 % range",
            meaning="Meaning",
            kind="Rests on",
            source="Source",
        )
        parts += [
            f"## {name}: {first['title']}",
            f"{str(first['class']).capitalize()}. {first['note']}",
            text,
        ]
    return "\n\n".join(parts)


def _diseases_page() -> str:
    parts = [
        "# Diseases",
        "A disease sets parameters, may hit states at its onset, and may be placed by a covariate.",
    ]
    for name, rows in _with_range(disease_table()).groupby("disease", sort=False):
        first = rows.iloc[0]
        arrives = "Patients arrive with it." if first["established"] else "Starts in a healthy animal."
        parts += [f"## {name}: {first['title']}", f"In: {first['species']}. {arrives} {first['note']}"]
        if first["does"] != "nothing":
            parts.append(
                _markdown(
                    rows,
                    does="Does",
                    target="Target",
                    value="Value",
                    range="95 % range",
                    meaning="Meaning",
                    kind="Rests on",
                    source="Source",
                )
            )
    return "\n\n".join(parts)


def _species_page() -> str:
    parts = [
        "# Species",
        "Values that a species sets itself (own) and those it leaves at the default of the model.",
    ]
    for name, rows in _with_range(species_table()).groupby("species", sort=False):
        text = _markdown(
            rows,
            parameter="Parameter",
            value="Value",
            unit="Unit",
            range="95 % range",
            own="Own",
            meaning="Meaning",
            kind="Rests on",
            source="Source",
        )
        parts += [f"## {str(name).capitalize()}", text]
    return "\n\n".join(parts)


_WRITERS: Mapping[str, Callable[[], str]] = {
    "equations": _equations_page,
    "states": _states_page,
    "parameters": _parameters_page,
    "processes": _processes_page,
    "products": _products_page,
    "drugs": _drugs_page,
    "diseases": _diseases_page,
    "species": _species_page,
}
_TABLES: Mapping[str, Callable[[], Any]] = {
    "states": state_table,
    "parameters": parameter_table,
    "processes": process_table,
    "products": product_table,
    "drugs": drug_table,
    "diseases": disease_table,
    "species": species_table,
}


def page(name: str) -> str:
    """One page of the docs in Markdown, LaTeX between ``$$``; DeclarationError if there is no such page."""
    if name not in _WRITERS:
        raise DeclarationError(f"No page {name!r}.{nearest(name, _WRITERS)}")
    return f"{GENERATED}\n\n{_WRITERS[name]()}\n"


def write_pages(folder: str | Path) -> list[Path]:
    """Write every page and the pictures into a folder, which is made if need be.

    Returns
    -------
    list of Path
        The files written: ``equations.md`` and so on, ``pathway.svg/.png`` and ``picture.svg/.png``.
    """
    target = Path(folder)
    target.mkdir(parents=True, exist_ok=True)
    written = []
    for name in PAGES:
        written.append(target / f"{name}.md")
        written[-1].write_text(page(name), encoding="utf-8", newline="\n")
    for name, detail in PICTURES.items():
        for suffix in (".svg", ".png"):
            written.append(target / f"{name}{suffix}")
            save_picture(written[-1], detail)
    return written


# --------------------------------------------------------------------------- command line


def _write_text(what: str, out: Path | None) -> None:
    if out is None:
        sys.stdout.write(page(what))
    elif out.suffix == ".csv" and what in _TABLES:
        _TABLES[what]().to_csv(out, index=False)
    elif out.suffix == ".md":
        out.write_text(page(what), encoding="utf-8", newline="\n")
    else:
        allowed = "equations.md" if what == "equations" else f"{what}.md or {what}.csv"
        raise DeclarationError(
            f"--out {out}: cannot write {what} as {out.suffix or 'a file without an ending'}. Use {allowed}."
        )


def _run(what: str, out: Path | None, detail: str) -> None:
    choices = (*PAGES, "diagram", "pages")
    if what not in choices:
        raise DeclarationError(f"Nothing to describe under {what!r}.{nearest(what, choices)}")
    if what == "pages":
        for path in write_pages(out or Path("docs/model")):
            print(path)
    elif what == "diagram":
        if out is None or out.suffix not in (".svg", ".png", ".pdf"):
            raise DeclarationError(
                f"diagram needs --out FILE that ends in .svg, .png or .pdf, got {out and str(out)!r}."
            )
        save_picture(out, cast("Detail", detail))
    else:
        _write_text(what, out)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command ``python -m mscrenal.model.describe``; 0 done, 2 bad input."""
    parser = argparse.ArgumentParser(
        prog="python -m mscrenal.model.describe",
        description="Print or write what the model's definition says.",
    )
    parser.add_argument("what", help=f"one of {', '.join(PAGES)}, diagram, pages")
    parser.add_argument(
        "--out", type=Path, help="file (.md, .csv; a picture: .svg, .png, .pdf), for pages a folder"
    )
    parser.add_argument("--detail", default="states", help="of the diagram: states or modules")
    given = parser.parse_args(arguments)
    try:
        _run(given.what, given.out, given.detail)
    except (DeclarationError, OSError) as error:
        print(f"mscrenal: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
