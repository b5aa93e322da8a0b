"""Generate the numerical code of the model from its symbolic form.

Right-hand side, Jacobian and observables are written as straight-line Python with common
subexpressions shared, stored in the user's cache folder under the hash of the definition, and compiled
by numba on first use (once per definition, with a message). Nothing is compiled at import.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import platformdirs

from mscrenal.model.build import Model, Rate
from mscrenal.model.definition import definition_hash, model
from mscrenal.model.functions import EXCESS_WIDTH

__all__ = ["Compiled", "cache_folder", "compiled", "equations", "generate"]

# Raised when the generator writes other code from the same definition.
GENERATOR = 1


@dataclass(frozen=True)
class Compiled:
    """The model as functions on float64 arrays.

    ``rhs(y, p, u, out)`` fills the time derivatives (n_states,); ``jac(y, p, u, out)`` the entries of
    the zeroed Jacobian (n_states, n_states); ``observe(y, p, u, out)`` the observables (n_observables,), ``observe_jac`` their zeroed derivatives (n_observables, n_states).
    y: states, p: parameters, u: inputs, each in the order of `model`.
    """

    model: Model
    rhs: Callable[..., None]
    jac: Callable[..., None]
    observe: Callable[..., None]
    observe_jac: Callable[..., None]
    hash: str


@dataclass(frozen=True)
class Equations:
    """The symbolic model: quantities in order, the derivative of each state, observables."""

    symbols: dict[str, Any]
    quantities: dict[str, Any]
    rates: dict[str, Any]
    derivatives: dict[str, Any]
    observables: dict[str, Any]


def _modified(expression: Any, effects: tuple[Any, ...], symbols: dict[str, Any]) -> Any:
    import sympy as sp

    for effect in effects:
        signal, size = symbols[effect.signal], symbols[effect.size.name]
        if effect.modulated_by:
            signal *= symbols[effect.modulated_by]
        if effect.kind == "inhibit":
            expression *= 1 - size * signal
        elif effect.kind == "stimulate":
            expression *= 1 + size * signal
        else:
            expression *= sp.exp(size * signal)
    return expression


def _paced(rate: Rate, expression: Any, symbols: dict[str, Any]) -> Any:
    return symbols["time_scale"] * expression if rate.paced else expression


def equations(structure: Model) -> Equations:
    """The model in sympy, quantities left as symbols of their own."""
    import sympy as sp

    names = [*structure.states, *structure.parameters, *structure.inputs, *structure.quantities]
    symbols = {name: sp.Symbol(name, real=True) for name in names}
    quantities = {
        name: _modified(sum((term(symbols) for term in terms), sp.Integer(0)), effects, symbols)
        for name, (_, terms, effects) in structure.quantities.items()
    }
    rates = {
        name: _paced(rate, _modified(sp.sympify(rate.term(symbols)), rate.effects, symbols), symbols)
        for name, rate in structure.rates.items()
    }
    derivatives = {name: sp.Integer(0) for name in structure.states}
    for name, rate in structure.rates.items():
        for state, coefficient in rate.stoichiometry.items():
            factor = symbols[coefficient] if isinstance(coefficient, str) else sp.nsimplify(coefficient)
            derivatives[state] = derivatives[state] + factor * rates[name]
    observables = {name: sp.sympify(term(symbols)) for name, (_, term) in structure.observables.items()}
    return Equations(symbols, quantities, rates, derivatives, observables)


# --------------------------------------------------------------------------- writing code


def _dependencies(eq: Equations, structure: Model) -> dict[str, dict[str, Any]]:
    """Total derivative of each quantity with respect to each state it depends on, by the chain rule.

    The entries refer to quantities and to one another by symbols ``d_<quantity>_<state>``.
    """
    import sympy as sp

    states = set(structure.states)
    total: dict[str, dict[str, Any]] = {}
    for name, expression in eq.quantities.items():
        row: dict[str, Any] = {}
        for symbol in sorted(expression.free_symbols, key=lambda s: s.name):
            if symbol.name in states:
                row[symbol.name] = row.get(symbol.name, 0) + sp.diff(expression, symbol)
            elif symbol.name in total:
                partial = sp.diff(expression, symbol)
                for state in total[symbol.name]:
                    row[state] = row.get(state, 0) + partial * sp.Symbol(
                        f"d_{symbol.name}_{state}", real=True
                    )
        total[name] = {state: value for state, value in row.items() if value != 0}
    return total


def _jacobian(
    rows: dict[str, Any], structure: Model, total: dict[str, dict[str, Any]]
) -> dict[tuple[int, int], Any]:
    """Non-zero entries (row, state) of the derivative of each expression in `rows`."""
    import sympy as sp

    entries: dict[tuple[int, int], Any] = {}
    for i, expression in enumerate(rows.values()):
        row: dict[str, Any] = {}
        for symbol in sorted(expression.free_symbols, key=lambda s: s.name):
            if symbol.name in structure.states:
                row[symbol.name] = row.get(symbol.name, 0) + sp.diff(expression, symbol)
            elif total.get(symbol.name):
                partial = sp.diff(expression, symbol)
                for state in total[symbol.name]:
                    row[state] = row.get(state, 0) + partial * sp.Symbol(
                        f"d_{symbol.name}_{state}", real=True
                    )
        for state, value in row.items():
            if value != 0:
                entries[i, structure.index[state]] = value
    return entries


def _function(
    name: str, structure: Model, assignments: list[tuple[str, Any]], results: list[tuple[str, Any]]
) -> str:
    """One straight-line function: unpack what is used, assign quantities, share subexpressions, fill `out`."""
    import sympy as sp
    from sympy.printing.pycode import PythonCodePrinter

    printer = PythonCodePrinter(
        {
            "fully_qualified_modules": False,
            "user_functions": {"Excess": "excess_value", "ExcessSlope": "excess_slope"},
        }
    )
    needed = _needed(assignments, results)
    assignments = [(n, e) for n, e in assignments if n in needed]
    shared, reduced = sp.cse(
        [e for _, e in (*assignments, *results)], symbols=sp.numbered_symbols("x_"), order="none"
    )
    used = {s.name for e in (*(v for _, v in shared), *reduced) for s in e.free_symbols}
    lines = [f"def {name}(y, p, u, out):"]
    for array, table in (("y", structure.states), ("p", structure.parameters), ("u", structure.inputs)):
        lines += [f"    {n} = {array}[{i}]" for i, n in enumerate(table) if n in used]
    lines += [
        f"    {target} = {printer.doprint(e)}" for target, e in _scheduled(shared, assignments, reduced)
    ]
    for (target, _), e in zip(results, reduced[len(assignments) :], strict=True):
        lines.append(f"    out[{target}] = {printer.doprint(e)}")
    return "\n".join(lines) + "\n"


def _needed(assignments: list[tuple[str, Any]], results: list[tuple[str, Any]]) -> set[str]:
    """Names of the assignments on which the results depend, directly or not."""
    table = dict(assignments)
    needed: set[str] = set()
    pending = [s.name for _, e in results for s in e.free_symbols]
    while pending:
        name = pending.pop()
        if name in table and name not in needed:
            needed.add(name)
            pending += [s.name for s in table[name].free_symbols]
    return needed


def _scheduled(
    shared: list[Any], assignments: list[tuple[str, Any]], reduced: list[Any]
) -> list[tuple[str, Any]]:
    """Interleave shared subexpressions and named quantities so that each comes after what it needs."""
    table = {symbol.name: e for symbol, e in shared}
    table |= {name: e for (name, _), e in zip(assignments, reduced, strict=False)}
    order: list[tuple[str, Any]] = []
    done: set[str] = set()

    for root in table:
        stack = [(root, False)]
        while stack:
            name, ready = stack.pop()
            if name in done:
                continue
            if ready:
                done.add(name)
                order.append((name, table[name]))
                continue
            stack.append((name, True))
            stack += [
                (s.name, False)
                for s in sorted(table[name].free_symbols, key=lambda s: s.name)
                if s.name in table and s.name not in done
            ]
    return order


HEADER = '''"""Generated by mscrenal.model.codegen from the model's definition; do not edit."""

from math import exp, log, sqrt

import numba as nb

MODEL_HASH = "{hash}"


@nb.njit(cache=True, error_model="numpy")
def excess_value(d):
    return d * d / (d + {width}) if d > 0.0 else 0.0


@nb.njit(cache=True, error_model="numpy")
def excess_slope(d):
    return d * (d + 2 * {width}) / (d + {width}) ** 2 if d > 0.0 else 0.0


'''


def generate(structure: Model) -> str:
    """Source of the three functions of a model, as a module for numba."""
    eq = equations(structure)
    quantities = list(eq.quantities.items())
    total = _dependencies(eq, structure)
    slopes = [(f"d_{q}_{s}", e) for q, row in total.items() for s, e in row.items()]
    jacobian = _jacobian(eq.derivatives, structure, total)
    observed = _jacobian(eq.observables, structure, total)
    parts = [
        _function("rhs", structure, quantities, [(str(i), e) for i, e in enumerate(eq.derivatives.values())]),
        _function(
            "jac", structure, [*quantities, *slopes], [(f"{i}, {j}", e) for (i, j), e in jacobian.items()]
        ),
        _function(
            "observe_jac",
            structure,
            [*quantities, *slopes],
            [(f"{i}, {j}", e) for (i, j), e in observed.items()],
        ),
        _function(
            "observe", structure, quantities, [(str(i), e) for i, e in enumerate(eq.observables.values())]
        ),
    ]
    body = "\n\n".join(
        '@nb.njit("void(f8[::1], f8[::1], f8[::1], {})", cache=True, error_model="numpy")\n'.format(
            "f8[:, ::1]" if "jac(" in p.split("\n")[0] else "f8[::1]"
        )
        + p
        for p in parts
    )
    digest = hashlib.sha256((body + repr(structure.parameter_names)).encode()).hexdigest()
    return HEADER.format(hash=digest, width=EXCESS_WIDTH) + body


def cache_folder() -> Path:
    """Where generated code is kept; MSCRENAL_CACHE overrides the user's cache folder."""
    return Path(os.environ.get("MSCRENAL_CACHE") or platformdirs.user_cache_dir("mscrenal"))


@cache
def compiled(slots: int = 1) -> Compiled:
    """The compiled model; from the cache when this definition was compiled before."""
    structure = model(slots)
    stem = f"kernels_{definition_hash()[:20]}_{GENERATOR}_{slots}"
    path = _writable(cache_folder()) / f"{stem}.py"
    if not path.exists():
        print(
            "mscrenal: preparing the model for this machine, once (about half a minute) ...",
            file=sys.stderr,
            flush=True,
        )
        source = generate(structure)
        # Written beside and renamed, so that two processes starting together never read half a file.
        temporary = path.with_suffix(f".{os.getpid()}.tmp")
        temporary.write_text(source, encoding="utf-8")
        temporary.replace(path)
    spec = importlib.util.spec_from_file_location(stem, path)
    if spec is None or spec.loader is None:
        raise ImportError(f"cannot load the generated model from {path}; delete the file and try again.")
    module = importlib.util.module_from_spec(spec)
    sys.modules[stem] = module
    spec.loader.exec_module(module)
    return Compiled(structure, module.rhs, module.jac, module.observe, module.observe_jac, module.MODEL_HASH)


def _writable(folder: Path) -> Path:
    """The folder, or a private temporary one where it cannot be written (a read-only home)."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return Path(tempfile.mkdtemp(prefix="mscrenal-"))
    return folder if os.access(folder, os.W_OK) else Path(tempfile.mkdtemp(prefix="mscrenal-"))
