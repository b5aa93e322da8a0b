r"""The model's equations as one LaTeX file that compiles on its own.

The formulas are those of the pages (`mscrenal.model.describe`); here they get a preamble, headings and tables
of the symbols. The file is plain ASCII: pdflatex reads it with nothing but amsmath, array, geometry and longtable.
"""

from __future__ import annotations

from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, version

import pandas as pd

from mscrenal.model import definition_hash
from mscrenal.model.describe import FORMS, equations_latex, parameter_table, state_table
from mscrenal.model.sbml import TOOL

__all__ = ["latex_document", "latex_text"]

# Characters of the declarations that pdflatex has no letter for, and those that mean something to it.
LETTERS = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "%": r"\%", "&": r"\&", "#": r"\#", "_": r"\_",
    "$": r"\$", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": "$<$", ">": "$>$",
    "α": r"$\alpha$", "β": r"$\beta$", "γ": r"$\gamma$", "κ": r"$\kappa$", "μ": r"$\mu$", "µ": r"$\mu$",
    "×": r"$\times$", "·": r"$\cdot$", "±": r"$\pm$", "²": "$^2$", "³": "$^3$", "−": "$-$", "–": "--",
    "—": "---", "…": r"\dots{}", "≥": r"$\ge$", "≤": r"$\le$",
}  # fmt: skip
PREAMBLE = r"""\documentclass[10pt,a4paper]{article}
\usepackage[margin=15mm]{geometry}
\usepackage{array}
\usepackage{amsmath}
\usepackage{longtable}
\setlength{\parindent}{0pt}
\setlength{\parskip}{4pt}
\allowdisplaybreaks
\title{mscrenal: the equations of the model}
\author{}
\date{}
\begin{document}
\maketitle
"""
KINDS = {"quantity": "Quantities", "rate": "Rates", "balance": "Balances", "observable": "Observables"}


def latex_text(text: str) -> str:
    """Words of a declaration in LaTeX.

    >>> latex_text("TNF-α, 50 % of m_1")
    'TNF-$\\\\alpha$, 50 \\\\% of m\\\\_1'
    """
    return "".join(LETTERS.get(letter, letter) for letter in text)


def latex_document() -> str:
    """Every equation of the model, module by module, with tables of states and parameters."""
    try:
        release = version("mscrenal")
    except PackageNotFoundError:
        release = "(not installed as a package)"
    parts = [PREAMBLE, latex_text(f"{TOOL} Version {release}, model {definition_hash()}."), _forms()]
    for module, formulas in equations_latex().items():
        parts.append(rf"\section{{{latex_text(_capital(module))}}}")
        for kind, heading in KINDS.items():
            chosen = [f for f in formulas if f.kind == kind]
            if chosen and module != "observables":
                parts.append(rf"\subsection{{{heading}}}")
            parts += [f"{latex_text(_capital(f.meaning))}\n\\[\n{f.latex}\n\\]" for f in chosen]
    parts += [r"\section{States}", _table(state_table(), "healthy")]
    parts += [r"\section{Parameters}", _table(parameter_table(), "value")]
    return "\n\n".join([*parts, r"\end{document}"]) + "\n"


def _capital(text: str) -> str:
    # A Greek letter stays small: capital beta is read as B.
    return f"{text[:1].upper()}{text[1:]}" if text[:1].isascii() else text


def _forms() -> str:
    """The introduction of the page of equations: its links lead nowhere here, its formulas stand in lines."""
    before, formulas, after = FORMS.split("$$")
    after = after.replace("[states](states.md)", "states").replace(
        "[parameters](parameters.md)", "parameters"
    )
    rows = formulas.strip().replace(r", \qquad", r", \\")
    return f"{before.strip()}\n\\begin{{gather*}}\n{rows}\n\\end{{gather*}}\n{after.strip()}"


def _table(table: pd.DataFrame, value: str) -> str:
    head = rf"Symbol & Name & {_capital(value)} & Unit & Meaning \\ \hline"
    return "\n".join(
        [
            r"{\scriptsize\setlength{\tabcolsep}{1.5mm}",
            r"\begin{longtable}{@{}p{47mm}>{\raggedright}p{36mm}r>{\raggedright}p{18mm}>{\raggedright\arraybackslash}p{50mm}@{}}",
            rf"{head} \endhead",
            *_rows(table, value),
            r"\end{longtable}",
            "}",
        ]
    )


def _rows(table: pd.DataFrame, value: str) -> Iterable[str]:
    for row in table.to_dict("records"):
        # A name may be long: it may be broken after its underscores.
        name = latex_text(row["name"]).replace(r"\_", r"\_\allowbreak ")
        cells = (
            f"${row['symbol']}$",
            rf"\texttt{{{name}}}",
            f"{row[value]:.4g}",
            latex_text(row["unit"]).replace("/", r"/\allowbreak "),
            latex_text(row["meaning"]),
        )
        yield " & ".join(cells) + r" \\"
