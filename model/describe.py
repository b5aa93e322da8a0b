"""What the model says, in words, tables and LaTeX, all read off the one definition.

``python -m mscrenal.model.describe parameters`` prints a table, ``… diagram --out pathway.svg`` draws the
network (`mscrenal.model.picture`), ``… pages --out docs/model`` writes every page of the docs
(`mscrenal.model.pages`). Pandas and sympy are imported when a function needs them.
"""

from __future__ import annotations

import math
import re
import sys
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
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
)
from mscrenal.model.definition import MODULES, model, sampled_parameters
from mscrenal.model.drugs import DRUGS
from mscrenal.model.functions import EXCESS_WIDTH
from mscrenal.model.insults import DISEASES
from mscrenal.model.processes.effectors import ARM_EFFECTS
from mscrenal.model.products import PRODUCT_PARAMETERS, PRODUCTS
from mscrenal.model.species import SPECIES

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "FORMS",
    "Formula",
    "Writer",
    "counts",
    "disease_table",
    "drug_table",
    "equations_latex",
    "factor_of",
    "fold",
    "kind_of",
    "number",
    "parameter_table",
    "process_table",
    "product_table",
    "signals_of",
    "source_text",
    "species_table",
    "state_table",
    "symbols",
    "unfold",
]

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


def signals_of(effect: Effect) -> tuple[str, ...]:
    """The names that are multiplied to the signal of an effect."""
    return (effect.signal, effect.modulated_by) if effect.modulated_by else (effect.signal,)


def _effect_text(effect: Effect) -> str:
    return f"{' × '.join(signals_of(effect))} ({effect.kind})"


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


def factor_of(effect: Effect, size: float) -> float:
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
            "factor": factor_of(e, e.size.value),
            "factor_low": factor_of(e, range_of(e.size)[0]),
            "factor_high": factor_of(e, range_of(e.size)[1]),
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


class Writer:
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
            term = r"\,".join(symbols()[name] for name in (e.size.name, *signals_of(e)))
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
    writer = Writer(structure)
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


if __name__ == "__main__":
    from mscrenal.model.pages import main

    sys.exit(main())
