"""What the model says, in words, tables, LaTeX and a picture, all read off the one definition.

``python -m mscrenal.model.describe parameters`` prints a table, ``… diagram --out pathway.svg`` draws the
network, ``… pages --out docs/model`` writes every page of the docs. Pandas, sympy and matplotlib are imported
when a function needs them.
"""

from __future__ import annotations

import argparse
import math
import random
import re
import sys
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from mscrenal.model.build import Model, Rate
from mscrenal.model.declare import (
    Assumed,
    DeclarationError,
    Effect,
    Fitted,
    HalfNormal,
    LogitNormal,
    LogNormal,
    Normal,
    Parameter,
    Prior,
    Provenance,
    Quantity,
    State,
    nearest,
)
from mscrenal.model.definition import MODULES, model, sampled_parameters
from mscrenal.model.drugs import DRUGS
from mscrenal.model.functions import EXCESS_WIDTH
from mscrenal.model.insults import DISEASES
from mscrenal.model.processes.effectors import ARM_EFFECTS, ARMS_OF_ACTION
from mscrenal.model.processes.variability import RANDOM_EFFECTS
from mscrenal.model.products import PRODUCT_PARAMETERS, PRODUCTS
from mscrenal.model.species import SPECIES

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

__all__ = [
    "Formula",
    "Influence",
    "counts",
    "diagram",
    "disease_table",
    "drug_table",
    "equations_latex",
    "influences",
    "page",
    "parameter_table",
    "process_table",
    "product_table",
    "species_table",
    "state_table",
    "symbols",
    "write_pages",
]

HOW_TO_REGENERATE = "python -m mscrenal.model.describe pages --out docs/model"
Z95 = 1.959964

# --------------------------------------------------------------------------- words


def kind_of(source: Provenance) -> Literal["sourced", "fitted", "assumed"]:
    """What a number rests on: a row of the evidence, a fit of the package, or nobody's measurement."""
    if isinstance(source, Assumed):
        return "assumed"
    return "fitted" if isinstance(source, Fitted) else "sourced"


def source_text(source: Provenance) -> str:
    """The provenance in one line."""
    return "; ".join(map(str, source)) if isinstance(source, tuple) else str(source)


def prior_text(prior: Prior) -> str:
    """The prior in words."""
    match prior:
        case LogNormal(sigma):
            return f"log-normal, SD of log {number(sigma)}"
        case LogitNormal(sigma):
            return f"logit-normal, SD of logit {number(sigma)}"
        case Normal(sd):
            return f"normal, SD {number(sd)}"
        case HalfNormal(scale):
            return f"half-normal, scale {number(scale)}"
        case _:
            return "fixed"


def range_of(parameter: Parameter) -> tuple[float, float]:
    """The central 95 % of the prior; not-a-number twice where the value is fixed."""
    if not parameter.sampled:
        return math.nan, math.nan
    return parameter.at(-Z95), parameter.at(Z95)


def number(value: float) -> str:
    """A number as a table has it: four significant digits, empty if there is none.

    >>> number(0.00038), number(1440.0), number(float("nan"))
    ('0.00038', '1440', '')
    """
    return "" if math.isnan(value) else f"{value:.4g}"


def _rows(rows: Iterable[Mapping[str, Any]]) -> pd.DataFrame:
    import pandas as pd

    return pd.DataFrame(list(rows))


# --------------------------------------------------------------------------- tables


@cache
def _parameter_homes() -> dict[str, str]:
    """In which module of the model (or 'drug: …', 'products', 'observables') a parameter is declared."""
    homes: dict[str, str] = {}
    for module in MODULES:
        homes |= {p.name: module.MODULE for p in vars(module).values() if isinstance(p, Parameter)}
    structure = model()
    for rate in structure.rates.values():
        homes |= {p.name: rate.declaration.module for p in rate.declaration.parameters}
    for quantity, _, _ in structure.quantities.values():
        homes |= {p.name: quantity.module for p in quantity.parameters}
    homes |= {e.size.name: "effectors" for e in ARM_EFFECTS}
    for drug in DRUGS.values():
        homes |= {e.size.name: f"drug: {drug.name}" for e in drug.effects}
    homes |= {p.name: "products" for p in PRODUCT_PARAMETERS}
    for name, p in structure.parameters.items():
        homes.setdefault(
            name, "variability" if p.scope == "patient" and name.startswith("eta_") else "observables"
        )
    return homes


def state_table() -> pd.DataFrame:
    """One row per state: symbol, unit, module, meaning, healthy value, how it starts, what changes it."""
    structure = model()
    changed: dict[str, list[str]] = defaultdict(list)
    for name, rate in structure.rates.items():
        for state in rate.stoichiometry:
            changed[state].append(name)
    return _rows(
        {
            "name": s.name,
            "symbol": symbols()[s.name],
            "unit": s.unit,
            "module": s.module,
            "meaning": s.meaning,
            "healthy": s.healthy,
            "start": s.start,
            "history_rate": s.history_rate,
            "per_product": s.per_slot,
            "changed_by": ", ".join(changed[s.name]),
        }
        for s in structure.states.values()
    )


def _valued(p: Parameter) -> dict[str, Any]:
    """The columns that every table of values shares."""
    low, high = range_of(p)
    return {
        "value": p.value,
        "unit": p.unit,
        "low": low,
        "high": high,
        "prior": prior_text(p.prior),
        "meaning": p.meaning,
        "kind": kind_of(p.source),
        "source": source_text(p.source),
    }


def parameter_table() -> pd.DataFrame:
    """One row per parameter of the model: value, unit, prior with its 95 % range, meaning, source, home."""
    homes = _parameter_homes()
    return _rows(
        {"name": p.name, "symbol": symbols()[p.name], **_valued(p), "scope": p.scope, "module": homes[p.name]}
        for p in model().parameters.values()
    )


def _change_text(rate: Rate) -> str:
    signs: dict[float | str, str] = {1: "+", -1: "−"}
    return ", ".join(f"{signs.get(c, f'{c} × ')}{s}" for s, c in rate.stoichiometry.items())


def _signals(effect: Effect) -> tuple[str, ...]:
    """The names that are multiplied to the signal of an effect."""
    return (effect.signal, effect.modulated_by) if effect.modulated_by else (effect.signal,)


def _effect_text(effect: Effect) -> str:
    return f"{' × '.join(_signals(effect))} ({effect.kind})"


def process_table() -> pd.DataFrame:
    """One row per process: what it changes, what it depends on, which drugs and arms modify it."""
    structure = model()
    return _rows(
        {
            "name": name,
            "module": rate.declaration.module,
            "changes": _change_text(rate),
            "unit": rate.declaration.unit,
            "meaning": rate.declaration.meaning,
            "depends_on": ", ".join(a for a in rate.declaration.arguments if a not in structure.parameters),
            "parameters": ", ".join(a for a in rate.declaration.arguments if a in structure.parameters),
            "modified_by": ", ".join(map(_effect_text, rate.effects)),
            "paced": rate.paced,
            "per_product": rate.declaration.per_slot,
        }
        for name, rate in structure.rates.items()
    )


def product_table() -> pd.DataFrame:
    """One row per product and parameter, with what the number rests on (`basis`)."""
    return _rows(
        {
            "product": p.name,
            "title": p.title,
            "kind_of_product": p.kind,
            "tissue": p.tissue,
            "origin": p.origin,
            "parent": p.parent,
            "routes": ", ".join(p.routes),
            "dose_unit": p.dose_unit,
            "note": p.note,
            "parameter": q.name,
            "basis": p.basis(q.name),
            **_valued(q),
        }
        for p in PRODUCTS.values()
        for q in p.parameters
    )


def _factor(effect: Effect, size: float) -> float:
    """By what a full signal multiplies the target."""
    if effect.kind == "scale":
        return math.exp(size)
    return 1 - size if effect.kind == "inhibit" else 1 + size


def drug_table() -> pd.DataFrame:
    """One row per drug and target; `factor` is what the usual dose multiplies the target by."""
    return _rows(
        {
            "drug": d.name,
            "title": d.title,
            "class": d.kind,
            "target": e.on,
            "how": e.kind,
            "factor": _factor(e, e.size.value),
            "factor_low": _factor(e, range_of(e.size)[0]),
            "factor_high": _factor(e, range_of(e.size)[1]),
            "note": d.note,
            "parameter": e.size.name,
            **_valued(e.size),
        }
        for d in DRUGS.values()
        for e in d.effects
    )


def disease_table() -> pd.DataFrame:
    """One row per disease and what it does: it sets, multiplies at onset, or finds from a covariate."""
    rows: list[dict[str, Any]] = []
    for d in DISEASES.values():
        what = {
            "disease": d.name,
            "title": d.title,
            "species": ", ".join(d.species),
            "established": d.established,
            "note": d.note,
        }
        mine = [what | {"does": "sets", "target": p.name, **_valued(p)} for p in d.sets]
        mine += [
            what
            | {
                "does": "multiplies at onset",
                "target": state,
                "value": factor,
                "unit": "1",
                "meaning": "factor on the state at onset",
            }
            for state, factor in d.onset.items()
        ]
        mine += [
            what
            | {
                "does": "finds from a covariate",
                "target": target,
                "meaning": f"found so that {covariate} is met",
            }
            for covariate, target in d.anchors.items()
        ]
        rows += mine or [what | {"does": "nothing"}]
    return _rows(rows)


def species_table() -> pd.DataFrame:
    """One row per species and species-dependent parameter; `own` tells its own values from the defaults."""
    shared = [p for p in model().parameters.values() if p.scope == "species"]
    rows = []
    for s in SPECIES.values():
        own = {p.name: p for p in s.sets}
        for p in [
            *(own.get(q.name, q) for q in shared),
            *(p for p in s.sets if p.name not in {q.name for q in shared}),
        ]:
            rows.append({"species": s.name, "parameter": p.name, "own": p.name in own, **_valued(p)})
    return _rows(rows)


def counts() -> dict[str, Any]:
    """How large the model is and what its numbers rest on.

    Returns
    -------
    dict
        ``states``, ``processes``, ``quantities``, ``observables``, ``inputs``, ``parameters`` (of one
        simulation with one product); of these parameters ``sourced``, ``fitted``, ``assumed``; ``sampled``:
        everything that is drawn, the values of species, diseases and products included; ``products``,
        ``drugs``, ``diseases``, ``species``; ``modules``: states, processes, quantities, parameters of each.
    """
    structure = model()
    kinds = Counter(kind_of(p.source) for p in structure.parameters.values())
    modules: dict[str, dict[str, int]] = {
        m.MODULE: dict.fromkeys(("states", "processes", "quantities", "parameters"), 0) for m in MODULES
    }
    for s in structure.states.values():
        modules[s.module]["states"] += 1
    for r in structure.rates.values():
        modules[r.declaration.module]["processes"] += 1
    for q, _, _ in structure.quantities.values():
        modules[q.module]["quantities"] += 1
    for home in _parameter_homes().values():
        modules.setdefault(home, {"parameters": 0})["parameters"] += 1
    return {
        "states": len(structure.states),
        "processes": len(structure.rates),
        "quantities": len(structure.quantities),
        "observables": len(structure.observables),
        "inputs": len(structure.inputs),
        "parameters": len(structure.parameters),
        "sourced": kinds["sourced"],
        "fitted": kinds["fitted"],
        "assumed": kinds["assumed"],
        "sampled": len(sampled_parameters()),
        "products": len(PRODUCTS),
        "drugs": len(DRUGS),
        "diseases": len(DISEASES),
        "species": len(SPECIES),
        "modules": modules,
    }


# --------------------------------------------------------------------------- symbols


def _subscript(words: str) -> str:
    return r"_{\mathrm{" + words.replace("_", r"\,") + "}}"


def _declared_symbol(symbol: str) -> str:
    """A declared symbol, with subscripts of two letters and more set upright."""
    return re.sub(r"_\{([A-Za-z]{2,})\}", r"_{\\mathrm{\1}}", symbol)


# Prefix or suffix of a parameter's name, and the letter that stands for it: the rest is the subscript.
_PREFIXES = {
    "eta_": r"\eta",
    "potency_": r"\pi",
    "switch_": r"\chi",
    "signal_": r"\sigma",
    "total_": r"\Sigma",
    "level_": "u",
    "in_": "J",
}
_SUFFIXES = {
    "_half": "K",
    "_turnover": "k",
    "_rate": "k",
    "_gain": "a",
    "_exponent": r"\gamma",
    "_healthy": "h",
}


def _automatic_symbols(name: str, item: Any, sizes: frozenset[str]) -> tuple[str, str]:
    """A symbol made from the name: the short one, and a longer one in case the short one is taken."""
    letter, short = ("f" if isinstance(getattr(item, "prior", None), LogitNormal) else "a"), name
    if name in sizes:
        letter, short = r"\epsilon", name.replace("_on_", r":\,")
    elif prefix := next((p for p in _PREFIXES if name.startswith(p)), ""):
        letter, short = _PREFIXES[prefix], name.removeprefix(prefix)
    elif isinstance(item, Quantity):
        letter = "q"
    elif suffix := next((s for s in _SUFFIXES if name.endswith(s)), ""):
        letter, short = _SUFFIXES[suffix], name.removesuffix(suffix)
    elif item.unit == "1/day":
        letter = "k"
    return letter + _subscript(short), letter + _subscript(name)


@cache
def symbols() -> dict[str, str]:
    r"""The LaTeX symbol of every name of the model, declared or made from the name; no two are alike.

    Raises
    ------
    DeclarationError
        If two names declare the same symbol.
    """
    structure = model()
    items: dict[str, Any] = {**structure.states, **{n: q for n, (q, _, _) in structure.quantities.items()}}
    items |= {**structure.inputs, **structure.parameters}
    sizes = frozenset(e.size.name for e in (*ARM_EFFECTS, *(e for d in DRUGS.values() for e in d.effects)))
    wanted = {}
    for name, item in items.items():
        declared = _declared_symbol(getattr(item, "symbol", ""))
        wanted[name] = (declared, declared) if declared else _automatic_symbols(name, item, sizes)
    frequency = Counter(short for short, _ in wanted.values())
    table = {name: short if frequency[short] == 1 else long for name, (short, long) in wanted.items()}
    taken: dict[str, str] = {}
    for name, symbol in table.items():
        if symbol in taken:
            raise DeclarationError(
                f"{name!r} and {taken[symbol]!r} have the same symbol {symbol}. Give one of them another."
            )
        taken[symbol] = name
    return table


def _rate_symbol(name: str) -> str:
    return "r" + _subscript(name)


# --------------------------------------------------------------------------- equations


@dataclass(frozen=True)
class Formula:
    """One equation of the model in LaTeX, without delimiters."""

    kind: Literal["quantity", "rate", "balance", "observable"]
    name: str
    latex: str
    meaning: str


# About as much as a printed line holds, in characters left after the markup is taken off.
LINE = 84


def _width(latex: str) -> int:
    bare = re.sub(r"\\(left|right|mathrm|mathcal|,|frac|cdot)", "", latex)
    return len(re.sub(r"\\[a-z]+", "x", bare).translate(str.maketrans("", "", "{}_^ ")))


def _in_lines(left: str, pieces: Sequence[str], joint: str) -> str:
    """``left = pieces``, broken into lines where a piece ends."""
    lines = [pieces[0]]
    room = LINE - _width(left)
    for place, piece in enumerate(pieces[1:]):
        # The first piece of a rate is its pace, one letter: it never stands alone.
        if (place == 0 and _width(pieces[0]) < 3) or _width(lines[-1]) + _width(piece) <= room:
            lines[-1] += f"{joint}{piece}" if joint else f" {piece}"
        else:
            lines.append(piece)
            room = LINE
    if len(lines) == 1:
        return f"{left} = {lines[0]}"
    carried = r"\times " if joint else ""
    return (
        "\\begin{aligned}\n" + left + " &= " + (" \\\\\n&\\quad " + carried).join(lines) + "\n\\end{aligned}"
    )


@cache
def _folding() -> tuple[Any, Any, Any, Any]:
    """Sympy functions that stand in print for `stimulated`, `inhibited`, min(x, 1) and max(x, 1)."""
    import sympy as sp

    def latex(template: str) -> Callable[..., str]:
        def write(self: Any, printer: Any, exp: str | None = None) -> str:
            body = template % tuple(map(printer._print, self.args))
            return body if exp is None else rf"{body}^{{{exp}}}"

        return write

    return (
        type(
            "Stimulated",
            (sp.Function,),
            {"_latex": latex(r"\mathcal{S}\left(%s;\,%s,\,%s\right)"), "nargs": 3},
        ),
        type(
            "Inhibited",
            (sp.Function,),
            {"_latex": latex(r"\mathcal{I}\left(%s;\,%s,\,%s\right)"), "nargs": 3},
        ),
        type("AtMostOne", (sp.Function,), {"_latex": latex(r"\min\left(%s,\,1\right)"), "nargs": 1}),
        type("AtLeastOne", (sp.Function,), {"_latex": latex(r"\max\left(%s,\,1\right)"), "nargs": 1}),
    )


def _fold_minimum(piecewise: Any) -> Any:
    """A power of min(x, 1) where a Piecewise says as much."""
    import sympy as sp

    at_most_one = _folding()[2]
    (below, condition), (above, _) = piecewise.args
    if not (
        len(piecewise.args) == 2 and isinstance(condition, sp.StrictLessThan) and above == condition.rhs == 1
    ):
        return piecewise
    x = condition.lhs
    if below.is_Pow and below.base == x:
        return at_most_one(x) ** below.exp
    return at_most_one(x) if below == x else 1 / at_most_one(x) if below == 1 / x else piecewise


def _fold_maximum(product: Any) -> Any:
    """max(x, 1) for x/min(x, 1)."""
    _, _, at_most_one, at_least_one = _folding()
    for lesser in product.atoms(at_most_one):
        if product * lesser == lesser.args[0]:
            return at_least_one(lesser.args[0])
    return product


def _matching_driver(factor: Any, signed: Any, half: Any) -> Any:
    """x, if `factor` is 1 + signed·x/(half + x); else None."""
    import sympy as sp

    if not (factor.is_Add and len(factor.args) == 2 and sp.S.One in factor.args):
        return None
    ratio = (factor - 1) / signed
    for power in ratio.atoms(sp.Pow):
        if power.exp == -1 and power.base.is_Add and half in power.base.args:
            x = power.base - half
            if ratio == x * power:
                return x
    return None


def _fold_product(product: Any) -> Any:
    """One product with its normalised stimulations and inhibitions written as functions of their driver."""
    import sympy as sp

    stimulated, inhibited, _, _ = _folding()
    factors = list(product.args)
    for normaliser in [f for f in factors if f.is_Pow and f.exp == -1 and f.base.is_Add]:
        rest = normaliser.base - 1
        for denominator in [
            p for p in rest.atoms(sp.Pow) if p.exp == -1 and p.base.is_Add and sp.S.One in p.base.args
        ]:
            half, signed = denominator.base - 1, rest / denominator
            for numerator in factors:
                x = _matching_driver(numerator, signed, half)
                if x is not None:
                    negative = signed.could_extract_minus_sign()
                    folded = inhibited(x, -signed, half) if negative else stimulated(x, signed, half)
                    factors.remove(numerator)
                    factors.remove(normaliser)
                    factors.append(folded)
                    break
    return sp.Mul(*factors)


def fold(expression: Any) -> Any:
    """A rate with `stimulated` and `inhibited` put back, so that a reader sees drivers and not algebra."""
    import sympy as sp

    folded = expression.replace(lambda e: e.is_Mul, _fold_product)
    folded = folded.replace(lambda e: isinstance(e, sp.Piecewise), _fold_minimum)
    return folded.replace(lambda e: e.is_Mul, _fold_maximum)


def unfold(expression: Any) -> Any:
    """The inverse of `fold`."""
    from mscrenal.model.functions import inhibited as down
    from mscrenal.model.functions import power_below
    from mscrenal.model.functions import stimulated as up

    stimulated, inhibited, at_most_one, at_least_one = _folding()
    plain = expression.replace(at_least_one, lambda x: x / at_most_one(x)).replace(
        at_most_one, lambda x: power_below(x, 1)
    )
    return plain.replace(stimulated, up).replace(inhibited, down)


@cache
def _printer() -> type:
    """Sympy's LaTeX printer, with sums in the order of a textbook: 1 + x, 1 - x, x - 1."""
    from sympy.printing.latex import LatexPrinter

    def rank(term: Any) -> int:
        negative = term.could_extract_minus_sign()
        return 3 * negative + (term.is_Number == bool(negative))

    def terms(self: Any, expression: Any, order: Any = None) -> list[Any]:
        return sorted(expression.as_ordered_terms(), key=rank)

    return type("Printer", (LatexPrinter,), {"_as_ordered_terms": terms})


class _Writer:
    """Writes sympy expressions with the symbols of the model."""

    def __init__(self, structure: Model) -> None:
        import sympy as sp

        self.names = {name: sp.Symbol(name, real=True) for name in symbols()}
        printed = {self.names[name]: latex for name, latex in symbols().items()}
        self.printer = _printer()({"symbol_names": printed, "mul_symbol": r"\,"})
        self.structure = structure

    def latex(self, expression: Any) -> str:
        return self.printer.doprint(expression)

    def factors(self, expression: Any) -> list[str]:
        """The factors of a product, each one that is a sum in brackets."""
        folded = fold(expression)
        if _width(self.latex(folded)) < LINE or not folded.is_Mul:
            return [self.latex(folded)]
        return [
            rf"\left({self.latex(f)}\right)" if f.is_Add else self.latex(f)
            for f in folded.as_ordered_factors()
        ]

    def effects(self, effects: Iterable[Effect]) -> list[str]:
        """The multipliers of drugs and arms."""
        out, exponents = [], []
        for e in effects:
            term = r"\,".join(symbols()[name] for name in (e.size.name, *_signals(e)))
            if e.kind == "scale":
                exponents.append(term)
            else:
                out.append(rf"\left(1 {'-' if e.kind == 'inhibit' else '+'} {term}\right)")
        # A few exponents at a time: a sum of all of them would not fit a line.
        for i in range(0, len(exponents), 2):
            out.append(rf"\exp\left({' + '.join(exponents[i : i + 2])}\right)")
        return out

    def quantity(self, name: str) -> str:
        quantity, terms, effects = self.structure.quantities[name]
        pieces = self._bracketed(terms[0](self.names), bool(effects))
        if quantity.sum_slots:
            pieces[0] = rf"\sum_{{\mathrm{{products}}}} {pieces[0]}"
        if len(pieces) == 1 and not effects:
            return self.whole(symbols()[name], terms[0](self.names), pieces[0])
        return _in_lines(symbols()[name], [*pieces, *self.effects(effects)], r"\,")

    def whole(self, left: str, expression: Any, text: str) -> str:
        """``left = text``; a sum that is too long for a line is broken between its terms."""
        if _width(text) <= LINE or not expression.is_Add:
            return f"{left} = {text}"
        texts = [self.latex(term) for term in self.printer._as_ordered_terms(fold(expression))]
        signed = [texts[0], *(t if t.startswith("-") else f"+ {t}" for t in texts[1:])]
        return _in_lines(left, signed, "")

    def rate(self, name: str) -> str:
        import sympy as sp

        rate = self.structure.rates[name]
        pieces = self._bracketed(sp.sympify(rate.term(self.names)), bool(rate.effects) or rate.paced)
        paced = [symbols()["time_scale"]] if rate.paced else []
        return _in_lines(_rate_symbol(name), [*paced, *pieces, *self.effects(rate.effects)], r"\,")

    def _bracketed(self, expression: Any, multiplied: bool) -> list[str]:
        if multiplied and expression.is_Add:
            return [rf"\left({self.latex(fold(expression))}\right)"]
        return self.factors(expression)

    def balance(self, state: State) -> str:
        pieces: list[str] = []
        for name, rate in self.structure.rates.items():
            if state.name not in rate.stoichiometry:
                continue
            c = rate.stoichiometry[state.name]
            sign = "-" if not isinstance(c, str) and c < 0 else "+" if pieces else ""
            weight = (
                f"{symbols()[c]}\\," if isinstance(c, str) else "" if abs(c) == 1 else f"{number(abs(c))}\\,"
            )
            total = r"\sum_{\mathrm{products}} " if rate.declaration.per_slot and not state.per_slot else ""
            pieces.append(f"{sign} {total}{weight}{_rate_symbol(name)}".strip())
        return _in_lines(rf"\frac{{d{symbols()[state.name]}}}{{dt}}", pieces, "")

    def observable(self, name: str) -> str:
        import sympy as sp

        expression = sp.sympify(self.structure.observables[name][1](self.names))
        words = name.replace("_", r"\,")
        pieces = self.factors(expression)
        left = rf"\mathrm{{{words}}}"
        return self.whole(left, expression, pieces[0]) if len(pieces) == 1 else _in_lines(left, pieces, r"\,")


def equations_latex() -> dict[str, list[Formula]]:
    """Every equation of the model in LaTeX, by module: quantities, rates, balances; observables at the end.

    Per-product symbols are written once, without the index of the product.
    """
    structure = model()
    writer = _Writer(structure)
    grouped: dict[str, list[Formula]] = {m.MODULE: [] for m in MODULES}
    for name, (quantity, _, _) in structure.quantities.items():
        grouped[quantity.module].append(Formula("quantity", name, writer.quantity(name), quantity.meaning))
    for name, rate in structure.rates.items():
        grouped[rate.declaration.module].append(
            Formula("rate", name, writer.rate(name), rate.declaration.meaning)
        )
    for name, state in structure.states.items():
        grouped[state.module].append(Formula("balance", name, writer.balance(state), state.meaning))
    grouped["observables"] = [
        Formula("observable", name, writer.observable(name), o.meaning)
        for name, (o, _) in structure.observables.items()
    ]
    return {module: formulas for module, formulas in grouped.items() if formulas}


# --------------------------------------------------------------------------- the network


@dataclass(frozen=True)
class Influence:
    """One arrow: `source` raises (+1) or lowers (-1) the rate of change of `target`; 0: either, as it comes.

    A ``transfer`` is matter that leaves one state for another.
    """

    source: str
    target: str
    sign: int
    transfer: bool = False


def _modified(value: float, effects: Iterable[Effect], values: Mapping[str, float]) -> float:
    for e in effects:
        value *= _factor(e, values[e.size.name] * math.prod(values[name] for name in _signals(e)))
    return value


def _directions(structure: Model, nodes: Sequence[str], point: Mapping[str, float]) -> dict[str, float]:
    """What drives each node at a point: the derivative of a state, the formula of a quantity.

    Quantities that are nodes keep the value given in `point`, if there is one: what lies behind them is their
    own arrow, not their reader's.
    """
    values = dict(point)
    out: dict[str, float] = {}
    for name, (_, terms, effects) in structure.quantities.items():
        found = _modified(sum(term(values) for term in terms), effects, values)
        if name in nodes:
            out[name] = found
        values.setdefault(name, found)
    out |= dict.fromkeys(structure.states, 0.0)
    for rate in structure.rates.values():
        speed = _modified(rate.term(values), rate.effects, values)
        for state, c in rate.stoichiometry.items():
            out[state] += speed * (values[c] if isinstance(c, str) else c)
    return out


def _points(structure: Model, count: int = 8) -> list[dict[str, float]]:
    """States around health and disease at which the signs of the arrows are read, the same every time."""
    draw = random.Random("mscrenal")
    points = []
    for _ in range(count):
        # An insult, a switch or an infusion that is 0 would hide the arrows behind it; what works through a
        # drug alone is no arrow of the network.
        point = {p.name: p.value or 0.3 for p in structure.parameters.values()}
        point |= {effect.name: effect.sd for effect in RANDOM_EFFECTS.values()}
        drugs = {d.level for d in DRUGS.values()}
        point |= {name: 0.0 if name in drugs else 0.3 for name in structure.inputs}
        for s in structure.states.values():
            point[s.name] = s.healthy * 2 ** draw.uniform(-0.5, 2.0) if s.healthy else draw.uniform(0.2, 2.0)
            if s.start == "anchor" and s.healthy:
                point[s.name] = draw.uniform(0.3, 0.9)
        points.append(point)
    return points


@cache
def _nodes() -> dict[str, State | Quantity]:
    """What the picture shows: every state, and the quantities that declare a symbol and depend on states."""
    structure = model()
    nodes: dict[str, State | Quantity] = dict(structure.states)
    moving = set(structure.states)
    for name, (quantity, terms, _) in structure.quantities.items():
        if any(a in moving for term in terms for a in term.arguments.values()):
            moving.add(name)
            if quantity.symbol:
                nodes[name] = quantity
    return nodes


@cache
def influences() -> tuple[Influence, ...]:
    """Every direct influence between states, arms and the named quantities, with its sign.

    The sign is that of the partial derivative, by central differences at several states between health and
    disease; an influence whose sign differs between them is 0. What a state does to itself is left out.
    """
    structure, nodes = model(), _nodes()
    signs: dict[tuple[str, str], set[int]] = defaultdict(set)
    for point in _points(structure):
        full = point | {
            n: v for n, v in _directions(structure, list(nodes), point).items() if n not in structure.states
        }
        for source in nodes:
            step = 1e-4 * full[source] or 1e-6
            above = _directions(structure, list(nodes), full | {source: full[source] + step})
            below = _directions(structure, list(nodes), full | {source: full[source] - step})
            for target in nodes:
                slope = (above[target] - below[target]) / (2 * step)
                # 1e-9: a thousand times the rounding error of a difference of numbers of the order of one.
                if source != target and abs(slope) > 1e-9:
                    signs[source, target].add(1 if slope > 0 else -1)
    moved = {
        (a, b)
        for rate in structure.rates.values()
        for a, c in rate.stoichiometry.items()
        for b, d in rate.stoichiometry.items()
        if c == -1 and b != a and (isinstance(d, str) or d > 0)
    }
    return tuple(
        Influence(source, target, next(iter(found)) if len(found) == 1 else 0, (source, target) in moved)
        for (source, target), found in signs.items()
    )


# --------------------------------------------------------------------------- the picture
# Wires run as on a circuit board: out of a box into the gutter beside it, along a free track between two
# rows of boxes, down the gutter of the target's column and into the target. No wire then crosses a box.

INK, FAINT, PANEL, BOX = "#222222", "#8a8a8a", "#f4f4f1", "#ffffff"
# Blue and orange differ for every common colour blindness, arrow and bar without any colour.
STIMULATES, INHIBITS, EITHER, TRANSFERS = "#2f6fa8", "#c8502d", "#6b5b95", "#6f6f6f"
# Six of Paul Tol's "muted" qualitative scheme: apart from each other and from the two above, drawn thicker.
ARM_COLOURS = dict(
    zip(ARMS_OF_ACTION, ("#332288", "#44aa99", "#117733", "#999933", "#882255", "#aa4499"), strict=True)
)
# Modules side by side, from the dose to the kidney; a module not named here gets a column at the end.
COLUMNS: tuple[tuple[str, ...], ...] = (
    ("exposure",),
    ("effectors",),
    ("arms of action",),
    ("metabolism", "oxidative stress"),
    ("inflammation",),
    ("fibrosis", "autoimmunity"),
    ("kidney",),
    ("kidney function",),
)
# How words of a name are set in print.
PRINTED = {
    "ev": "EV",
    "ros": "ROS",
    "nrf2": "Nrf2",
    "mcp1": "MCP-1",
    "m1": "M1",
    "m2": "M2",
    "treg": "Treg",
    "th17": "Th17",
    "tnf": "TNF-α",
    "il6": "IL-6",
    "il10": "IL-10",
    "il1b": "IL-1β",
    "tgfb": "TGF-β1",
    "psmad": "pSmad2/3",
    "smad7": "Smad7",
    "vegf": "VEGF",
    "c3": "C3",
    "gfr": "GFR",
    "beta": "β",
    "age": "AGE",
}


def label(name: str) -> str:
    """A name as print has it.

    >>> label("tnf_kidney"), label("effect_antioxidant")
    ('TNF-α kidney', 'antioxidant')
    """
    return " ".join(PRINTED.get(word, word) for word in name.removeprefix("effect_").split("_"))


@dataclass
class _Box:
    """Something that wires join: a state, an arm, a module."""

    name: str
    group: str
    column: int
    row: float
    rows: float = 1.0
    lines: tuple[str, ...] = ()
    heads: bool = False
    x: float = 0.0
    y: float = 0.0
    width: float = 1.22
    height: float = 0.5


@dataclass
class _Wire:
    """All arrows of one colour that leave one side of one box: they share a trunk."""

    source: str
    targets: list[str]
    sign: int
    colour: str
    width: float
    back: bool
    gap: int | None = None
    track: float = 0.0
    lanes: dict[int, float] = field(default_factory=dict)
    exit_y: float = 0.0
    ports: dict[str, float] = field(default_factory=dict)


class _Board:
    """Places boxes on a grid and finds a way for each wire."""

    LANE, TRACK, MARGIN = 0.075, 0.066, 0.17

    def __init__(self, boxes: Sequence[_Box], arrows: Sequence[Influence], pitch: float, port: float) -> None:
        self.pitch, self.port = pitch, port
        self.boxes = {b.name: b for b in boxes}
        self.columns = 1 + max(b.column for b in boxes)
        self.rows = math.ceil(max(b.row + b.rows for b in boxes))
        for b in boxes:
            b.y = -(b.row + b.rows / 2) * self.pitch
            b.height = b.rows * self.pitch - 0.34
        self.wires = self._gather(arrows)
        self._choose_tracks()
        self._choose_ports()
        self._choose_lanes()

    def _gather(self, arrows: Sequence[Influence]) -> list[_Wire]:
        wires: dict[tuple[Any, ...], _Wire] = {}
        for a in arrows:
            back = self.boxes[a.target].column < self.boxes[a.source].column
            colour, width = _ink(a)
            key = (a.source, colour, a.sign if a.source in _arm_boxes() else 0, back)
            wire = wires.setdefault(key, _Wire(a.source, [], a.sign, colour, width, back))
            wire.targets.append(a.target)
        return list(wires.values())

    def gutter_out(self, wire: _Wire) -> int:
        return self.boxes[wire.source].column + (not wire.back)

    def gutter_in(self, wire: _Wire, target: str) -> int:
        """The gutter from which a wire enters: left of a target ahead, right of one behind or beside."""
        column = self.boxes[target].column
        return column if column > self.boxes[wire.source].column else column + 1

    def _gutters(self, wire: _Wire) -> list[int]:
        return sorted({self.gutter_out(wire), *(self.gutter_in(wire, t) for t in wire.targets)})

    def _free(self, gap: int, first: int, last: int) -> bool:
        """Whether a track crosses neither a box nor the heading above the first box of a group."""
        return not any(
            first <= b.column < last and (b.row < gap < b.row + b.rows or (b.heads and gap == b.row))
            for b in self.boxes.values()
        )

    def _choose_tracks(self) -> None:
        load: dict[tuple[int, int], int] = defaultdict(int)
        far = [w for w in self.wires if len(self._gutters(w)) > 1]
        for wire in sorted(
            far, key=lambda w: (self._gutters(w)[-1] - self._gutters(w)[0], w.source, w.colour, w.back)
        ):
            gutters = self._gutters(wire)
            ends = [self.boxes[n].row + self.boxes[n].rows / 2 for n in (wire.source, *wire.targets)]
            crossed = range(gutters[0], gutters[-1])

            def cost(gap: int, ends: list[float] = ends, crossed: range = crossed) -> tuple[float, int]:
                crowd = max((load[gap, c] for c in crossed), default=0)
                return sum(abs(gap - e) for e in ends) / len(ends) + abs(
                    gap - ends[0]
                ) * 0.5 + 0.45 * crowd**1.5, gap

            wire.gap = min(
                (g for g in range(self.rows + 1) if self._free(g, gutters[0], gutters[-1])), key=cost
            )
            for c in crossed:
                load[wire.gap, c] += 1
        for gap in range(self.rows + 1):
            self._stack([w for w in far if w.gap == gap], gap)

    def _stack(self, wires: list[_Wire], gap: int) -> None:
        """Give each wire of a gap a height of its own; wires that do not meet share one."""
        levels: list[list[_Wire]] = []
        for wire in sorted(wires, key=lambda w: (self._gutters(w)[0], w.source, w.colour)):
            first, last = self._gutters(wire)[0], self._gutters(wire)[-1]
            for level in levels:
                if all(last < self._gutters(o)[0] or self._gutters(o)[-1] < first for o in level):
                    level.append(wire)
                    break
            else:
                levels.append([wire])
        # Above the first row and below the last there is room without end, between rows there is not.
        lowest = 0 if gap == 0 else 1 - len(levels) if gap == self.rows else (1 - len(levels)) / 2
        for i, level in enumerate(levels):
            for wire in level:
                wire.track = -gap * self.pitch + (lowest + i) * self.TRACK

    def _height(self, wire: _Wire) -> float:
        """Whence a wire comes, for sorting the ports of a box."""
        return wire.track if wire.gap is not None else self.boxes[wire.source].y

    def _choose_ports(self) -> None:
        arriving: dict[tuple[str, int], list[_Wire]] = defaultdict(list)
        leaving: dict[tuple[str, bool], list[_Wire]] = defaultdict(list)
        for wire in self.wires:
            leaving[wire.source, wire.back].append(wire)
            for t in wire.targets:
                arriving[t, self.gutter_in(wire, t)].append(wire)
        for (target, gutter), wires in arriving.items():
            box = self.boxes[target]
            exits = leaving.get((target, gutter == box.column), [])
            slots = len(wires) + len(exits)
            spacing = min(self.port, (box.height - 0.08) / max(slots, 1))
            both = [(self._height(w), 0, w) for w in wires]
            both += [(self._mean_target(w), 1, w) for w in exits]
            for i, (_, out, wire) in enumerate(
                sorted(both, key=lambda item: (-item[0], item[1], item[2].source, item[2].colour))
            ):
                y = box.y + ((slots - 1) / 2 - i) * spacing
                if out:
                    wire.exit_y = y
                else:
                    wire.ports[target] = y
        for (source, back), wires in leaving.items():
            box = self.boxes[source]
            if (source, box.column + (not back)) not in arriving:
                spacing = min(self.port * 1.5, (box.height - 0.08) / len(wires))
                for i, wire in enumerate(sorted(wires, key=lambda w: (-self._mean_target(w), w.colour))):
                    wire.exit_y = box.y + ((len(wires) - 1) / 2 - i) * spacing

    def _mean_target(self, wire: _Wire) -> float:
        if wire.gap is not None:
            return wire.track
        return sum(self.boxes[t].y for t in wire.targets) / len(wire.targets)

    def _span(self, wire: _Wire, gutter: int) -> tuple[float, float]:
        ys = [wire.ports[t] for t in wire.targets if self.gutter_in(wire, t) == gutter]
        if gutter == self.gutter_out(wire):
            ys.append(wire.exit_y)
        if wire.gap is not None:
            ys.append(wire.track)
        return min(ys), max(ys)

    def _choose_lanes(self) -> None:
        x = 0.0
        for gutter in range(self.columns + 1):
            here = [w for w in self.wires if gutter in self._gutters(w)]
            lanes: list[list[_Wire]] = []
            for wire in sorted(
                here,
                key=lambda w: (
                    self._span(w, gutter)[0] - self._span(w, gutter)[1],
                    w.source,
                    w.colour,
                    w.back,
                ),
            ):
                low, high = self._span(wire, gutter)
                for lane in lanes:
                    spans = [self._span(o, gutter) for o in lane]
                    if all(high < a - 0.1 or b + 0.1 < low for a, b in spans):
                        lane.append(wire)
                        break
                else:
                    lanes.append([wire])
            width = (len(lanes) - 1) * self.LANE + 2 * self.MARGIN if lanes else 0.1
            for i, lane in enumerate(lanes):
                for wire in lane:
                    wire.lanes[gutter] = x + self.MARGIN + i * self.LANE
            x += width
            column = [b for b in self.boxes.values() if b.column == gutter]
            for b in column:
                b.x = x
            x += max((b.width for b in column), default=0.0)
        self.total = x

    def route(self, wire: _Wire, target: str) -> list[tuple[float, float]]:
        """The corners of one arrow."""
        source, box = self.boxes[wire.source], self.boxes[target]
        out, into = self.gutter_out(wire), self.gutter_in(wire, target)
        start = (source.x if wire.back else source.x + source.width, wire.exit_y)
        end = (box.x if into == box.column else box.x + box.width, wire.ports[target])
        points = [start, (wire.lanes[out], start[1])]
        if out != into:
            points += [(wire.lanes[out], wire.track), (wire.lanes[into], wire.track)]
        return [*points, (wire.lanes[into], end[1]), end]


@cache
def _arm_boxes() -> frozenset[str]:
    return frozenset(f"effect_{arm}" for arm in ARMS_OF_ACTION)


def _ink(arrow: Influence) -> tuple[str, float]:
    """Colour and width of an arrow."""
    if arrow.source in _arm_boxes():
        return ARM_COLOURS[arrow.source.removeprefix("effect_")], 1.7
    if arrow.transfer:
        return TRANSFERS, 0.9
    return {1: STIMULATES, -1: INHIBITS, 0: EITHER}[arrow.sign], 0.9


def _group(name: str, item: State | Quantity) -> str:
    if name in _arm_boxes():
        return "arms of action"
    return f"{item.module} function" if isinstance(item, Quantity) else item.module


def _shown() -> tuple[dict[str, str], list[Influence]]:
    """Boxes with their group, and arrows; the sinks that only keep the mass balance are left out."""
    arrows = list(influences())
    driven = {a.source for a in arrows}
    inflows = defaultdict(list)
    for a in arrows:
        inflows[a.target].append(a.transfer)
    sinks = {n for n in _nodes() if n not in driven and inflows[n] and all(inflows[n])}
    groups = {n: _group(n, item) for n, item in _nodes().items() if n not in sinks}
    return groups, [a for a in arrows if a.target in groups]


def _columns(groups: Iterable[str]) -> list[list[str]]:
    present = list(dict.fromkeys(groups))
    columns = [[g for g in column if g in present] for column in COLUMNS]
    columns += [[g] for g in present if all(g not in column for column in COLUMNS)]
    return [column for column in columns if column]


def _state_boxes(groups: Mapping[str, str]) -> list[_Box]:
    columns = _columns(groups.values())
    sizes = [sum(1 for g in groups.values() if g in column) + len(column) - 1 for column in columns]
    tall, boxes = max(sizes), []
    for place, column in enumerate(columns):
        names = [n for g in column for n, own in groups.items() if own == g]
        step = max(1, (tall - len(column) + 1) // len(names))
        row = (tall - (len(names) - 1) * step - 1 - (len(column) - 1)) // 2
        before = column[0]
        for name in names:
            row += groups[name] != before
            heads = groups[name] != before or name == names[0]
            before = groups[name]
            boxes.append(_Box(name, groups[name], place, row, lines=(label(name),), heads=heads))
            row += step
    return boxes


def _module_boxes(groups: Mapping[str, str], arms: Sequence[str]) -> list[_Box]:
    merged: dict[str, list[str]] = defaultdict(list)
    for name, group in groups.items():
        merged[group.removesuffix(" function")].append(label(name))
    boxes = []
    tall = len(arms)
    for place, column in enumerate(
        _columns(g for g in dict.fromkeys(x.removesuffix(" function") for x in groups.values()))
    ):
        if column == ["arms of action"]:
            boxes += [_Box(a, "arms of action", place, i, lines=(label(a),)) for i, a in enumerate(arms)]
            continue
        height = tall / len(column)
        boxes += [
            _Box(g, g, place, i * height, height, (g, *merged[g]), width=1.3) for i, g in enumerate(column)
        ]
    return boxes


def _module_arrows(groups: Mapping[str, str], arrows: Iterable[Influence]) -> list[Influence]:
    """Arrows between modules: one for all that agree in sign."""
    signs: dict[tuple[str, str], set[int]] = defaultdict(set)
    for a in arrows:
        ends = [n if n in _arm_boxes() else groups[n].removesuffix(" function") for n in (a.source, a.target)]
        if ends[0] != ends[1]:
            signs[ends[0], ends[1]].add(a.sign)
    return [Influence(s, t, next(iter(found)) if len(found) == 1 else 0) for (s, t), found in signs.items()]


def _towards(start: tuple[float, float], end: tuple[float, float], far: float) -> tuple[float, float]:
    share = far / math.dist(start, end)
    return start[0] + (end[0] - start[0]) * share, start[1] + (end[1] - start[1]) * share


def _rounded(points: Sequence[tuple[float, float]], radius: float = 0.055) -> Any:
    """A path along the points with rounded corners."""
    from matplotlib.path import Path as Outline

    kept = [p for i, p in enumerate(points) if i == 0 or math.dist(p, points[i - 1]) > 1e-9]
    vertices, codes = [kept[0]], [Outline.MOVETO]
    for before, corner, after in zip(kept, kept[1:], kept[2:], strict=False):
        r = min(radius, math.dist(before, corner) / 2, math.dist(corner, after) / 2)
        enter, leave = (_towards(corner, other, r) for other in (before, after))
        vertices += [enter, corner, leave]
        codes += [Outline.LINETO, Outline.CURVE3, Outline.CURVE3]
    return Outline([*vertices, kept[-1]], [*codes, Outline.LINETO])


def _tip(axes: Any, end: tuple[float, float], direction: int, sign: int, colour: str, width: float) -> None:
    """An arrow head, a bar, or a dot where the sign depends on circumstance."""
    from matplotlib.patches import Circle, Polygon

    x, y = end
    size = 0.05 if width < 1.5 else 0.062
    if sign > 0:
        axes.add_patch(
            Polygon(
                [
                    (x, y),
                    (x - direction * size * 1.7, y + size * 0.62),
                    (x - direction * size * 1.7, y - size * 0.62),
                ],
                fc=colour,
                ec="none",
                zorder=6,
            )
        )
    elif sign < 0:
        axes.plot(
            [x - direction * 0.03] * 2,
            [y - size * 0.72, y + size * 0.72],
            color=colour,
            lw=width + 1.0,
            solid_capstyle="butt",
            zorder=6,
        )
    else:
        axes.add_patch(Circle((x - direction * size * 0.6, y), size * 0.6, fc=colour, ec="none", zorder=6))


def _draw_wires(axes: Any, board: _Board) -> None:
    from matplotlib.patches import PathPatch

    long_first = sorted(
        board.wires, key=lambda w: (w.source in _arm_boxes(), w.gap is None, w.source, w.colour)
    )
    for place, wire in enumerate(long_first):
        paths = [(t, board.route(wire, t)) for t in wire.targets]
        z = 3 + place / len(long_first)
        for casing in (True, False):
            for target, points in paths:
                inhibits = wire.sign < 0
                end = board.boxes[target]
                direction = 1 if points[-1][0] <= end.x + 1e-9 else -1
                # A line ends where its head begins, and its white casing short of the box.
                stop = (points[-1][0] - direction * (0.03 if inhibits else 0.06), points[-1][1])
                path = _rounded([*points[:-1], stop])
                axes.add_patch(
                    PathPatch(
                        path,
                        fc="none",
                        ec="white" if casing else wire.colour,
                        lw=wire.width + (1.8 if casing else 0),
                        capstyle="butt",
                        zorder=z,
                    )
                )
                if not casing:
                    _tip(axes, points[-1], direction, wire.sign, wire.colour, wire.width)


def _draw_boxes(axes: Any, board: _Board) -> None:
    from matplotlib.patches import FancyBboxPatch

    slots = {n: item.per_slot for n, item in _nodes().items()}
    for b in board.boxes.values():
        arm = b.name in _arm_boxes()
        face = ARM_COLOURS[b.name.removeprefix("effect_")] if arm else BOX
        quantity = isinstance(_nodes().get(b.name), Quantity) and not arm
        shape = "round,pad=0,rounding_size=0.1"
        if slots.get(b.name) and len(b.lines) == 1:
            axes.add_patch(
                FancyBboxPatch(
                    (b.x + 0.035, b.y - b.height / 2 - 0.035),
                    b.width,
                    b.height,
                    boxstyle=shape,
                    fc=BOX,
                    ec=FAINT,
                    lw=0.6,
                    zorder=4.9,
                )
            )
        axes.add_patch(
            FancyBboxPatch(
                (b.x, b.y - b.height / 2),
                b.width,
                b.height,
                boxstyle=shape,
                fc=face,
                ec=face if arm else INK,
                lw=0.8,
                ls=(0, (3, 1.5)) if quantity else "-",
                zorder=5,
            )
        )
        middle, paint = b.x + b.width / 2, {"ha": "center", "color": "white" if arm else INK, "zorder": 7}
        if len(b.lines) == 1:
            text = _wrapped(b.lines[0])
            size = 7.6 if max(map(len, text.split("\n"))) < 15 else 7.0
            axes.text(
                middle,
                b.y,
                text,
                va="center",
                fontsize=size,
                fontweight="bold" if arm else "normal",
                linespacing=1.05,
                **paint,
            )
        else:
            top = b.y + min(b.height, 0.4 + 0.122 * len(b.lines)) / 2
            axes.text(
                middle, top - 0.06, b.lines[0].capitalize(), va="top", fontsize=9, fontweight="bold", **paint
            )
            axes.text(
                middle, top - 0.3, "\n".join(b.lines[1:]), va="top", fontsize=7, linespacing=1.25, **paint
            )


def _wrapped(text: str, most: int = 16) -> str:
    if len(text) <= most or " " not in text:
        return text
    words = text.split(" ")
    cuts = range(1, len(words))
    return min(
        (" ".join(words[:c]) + "\n" + " ".join(words[c:]) for c in cuts),
        key=lambda s: max(map(len, s.split("\n"))),
    )


def _draw_panels(axes: Any, board: _Board) -> None:
    from matplotlib.patches import FancyBboxPatch

    groups: dict[str, list[_Box]] = defaultdict(list)
    for b in board.boxes.values():
        groups[b.group].append(b)
    for name, boxes in groups.items():
        left, right = min(b.x for b in boxes) - 0.09, max(b.x + b.width for b in boxes) + 0.09
        top, bottom = (
            max(b.y + b.height / 2 for b in boxes) + 0.3,
            min(b.y - b.height / 2 for b in boxes) - 0.12,
        )
        axes.add_patch(
            FancyBboxPatch(
                (left, bottom),
                right - left,
                top - bottom,
                boxstyle="round,pad=0,rounding_size=0.12",
                fc=PANEL,
                ec="none",
                zorder=1,
            )
        )
        axes.text(
            (left + right) / 2,
            top - 0.04,
            name.upper(),
            ha="center",
            va="top",
            fontsize=7.4,
            color="#444444",
            fontweight="bold",
            zorder=7,
        )


def _draw_legend(axes: Any, board: _Board, x: float, y: float) -> None:
    used = {(w.colour, w.sign) for w in board.wires}
    entries = [
        ("stimulates", 1, STIMULATES),
        ("inhibits", -1, INHIBITS),
        ("some up, some down", 0, EITHER),
        ("cells or vesicles move", 1, TRANSFERS),
    ]
    entries = [e for e in entries if (e[2], e[1]) in used]
    entries.append(("an arm of action, in its colour", 1, ARM_COLOURS["cytoprotection"]))
    for text, sign, colour in entries:
        width = 1.7 if colour in ARM_COLOURS.values() else 1.0
        axes.plot([x, x + 0.38], [y, y], color=colour, lw=width, solid_capstyle="butt")
        _tip(axes, (x + 0.45, y), 1, sign, colour, width)
        axes.text(x + 0.54, y, text, va="center", fontsize=8, color=INK)
        x += 0.85 + 0.065 * len(text)
    if any(len(b.lines) == 1 and b.name not in _arm_boxes() for b in board.boxes.values()):
        axes.text(
            x,
            y,
            "double edge: one per product   ·   dashed edge: computed from states, not integrated",
            va="center",
            fontsize=8,
            color=INK,
        )


def _board(detail: str) -> _Board:
    """Boxes and wires of a picture, in inches."""
    groups, arrows = _shown()
    if detail == "states":
        return _Board(_state_boxes(groups), arrows, pitch=0.84, port=0.062)
    arms = [n for n in groups if n in _arm_boxes()]
    return _Board(_module_boxes(groups, arms), _module_arrows(groups, arrows), pitch=0.62, port=0.16)


def diagram(detail: Literal["states", "modules"] = "states") -> Figure:
    """The network as a picture, drawn from stoichiometry and partial derivatives.

    Parameters
    ----------
    detail : {'states', 'modules'}
        Every state with every direct influence (for a page of A3), or the modules with the influences between
        them (for a column of text).

    Returns
    -------
    matplotlib.figure.Figure
        Not registered with pyplot: save it with ``figure.savefig``.
    """
    import matplotlib as mpl
    from matplotlib.figure import Figure

    if detail not in ("states", "modules"):
        raise DeclarationError(f"No detail {detail!r}.{nearest(detail, ('states', 'modules'))}")
    board = _board(detail)
    tracks = [w.track for w in board.wires if w.gap is not None]
    left, right, high = -0.15, board.total + 0.15, max(0.3, max(tracks, default=0.0) + 0.15)
    low = min(-board.rows * board.pitch, min(tracks, default=0.0)) - 0.6
    with mpl.rc_context({"font.family": "DejaVu Sans", "svg.fonttype": "path", "svg.hashsalt": "mscrenal"}):
        figure = Figure(figsize=(right - left, high - low), facecolor="white")
        axes = figure.add_axes((0, 0, 1, 1))
        axes.set(xlim=(left, right), ylim=(low, high), aspect="equal")
        axes.axis("off")
        if detail == "states":
            _draw_panels(axes, board)
        _draw_wires(axes, board)
        _draw_boxes(axes, board)
        _draw_legend(axes, board, 0.1, low + 0.25)
    return figure


# --------------------------------------------------------------------------- pages

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
PICTURES: Mapping[str, Literal["states", "modules"]] = {"pathway": "states", "pathway-modules": "modules"}
GENERATED = f"<!-- Generated from the model's definition by `{HOW_TO_REGENERATE}`: do not edit. -->"
FORMULA_TITLES = {"quantity": "Quantities", "rate": "Rates", "balance": "Balances", "observable": ""}
FORMS = rf"""Rates are per day. Three forms recur: the stimulation and the inhibition of a synthesis by a
driver $x$, both 1 in health ($x = 1$), and the excess over health, rounded off over {EXCESS_WIDTH}.

$$
\mathcal{{S}}(x;\,a,\,K) = \frac{{1 + a\,\frac{{x}}{{K + x}}}}{{1 + \frac{{a}}{{K + 1}}}}, \qquad
\mathcal{{I}}(x;\,f,\,K) = \frac{{1 - f\,\frac{{x}}{{K + x}}}}{{1 - \frac{{f}}{{K + 1}}}}, \qquad
\left[d\right]_+ = \begin{{cases}} \dfrac{{d^2}}{{d + {EXCESS_WIDTH}}} & d > 0 \\ 0 & d \le 0 \end{{cases}}
$$

Symbols are those of the tables of [states](states.md) and [parameters](parameters.md); $u$ is the level of a
drug (1 at the usual dose), $J$ an infusion, $\tau$ the allometric pace of the species, $E$ an arm of action.
A sum over products runs over the products that an arm of the trial mixes; what is written for one product
stands for each."""


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


def _save_picture(path: Path, detail: Literal["states", "modules"]) -> None:
    import matplotlib as mpl

    # No date and a fixed salt: the same definition gives the same file.
    plain = (
        {"Date": None}
        if path.suffix == ".svg"
        else {"CreationDate": None}
        if path.suffix == ".pdf"
        else {"Software": None}
    )
    with mpl.rc_context({"svg.fonttype": "path", "svg.hashsalt": "mscrenal"}):
        diagram(detail).savefig(path, dpi=200, metadata=plain)


def write_pages(folder: str | Path) -> list[Path]:
    """Write every page and the pictures into a folder, which is made if need be.

    Returns
    -------
    list of Path
        The files written: ``equations.md`` and so on, ``pathway.svg/.png`` and ``pathway-modules.svg/.png``.
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
            _save_picture(written[-1], detail)
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
        _save_picture(out, detail)  # type: ignore[arg-type]
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
