"""Compile the model, once per definition and machine, and keep what was compiled.

The generated code (`mscrenal.model.codegen`) is stored in the user's cache folder under the hash of the definition and
compiled by numba on first use, with a message. Nothing is compiled at import, and numba itself is not imported
before a model is asked for.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import update_wrapper
from pathlib import Path
from threading import RLock
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np
import platformdirs

from mscrenal.model.build import Model
from mscrenal.model.codegen import generate
from mscrenal.model.definition import definition_hash, model
from mscrenal.model.placement import placement_tables
from mscrenal.model.sparse import plan

if TYPE_CHECKING:
    from mscrenal.model.placing import PlacementTables
    from mscrenal.model.stepper import System
    from mscrenal.model.tangent import TangentTables

__all__ = ["Compiled", "cache_folder", "compile_model", "compiled", "with_gradient"]

# The kernels, in the order in which the integrator finds their addresses, and how many arrays each takes.
CORE = {
    "derive": 3,
    "rates": 3,
    "slopes": 3,
    "observe_at": 3,
    "observe_slopes": 3,
    "factor": 1,
    "back_solve": 2,
}
SENSITIVITY = {"derive_more": 3, "rates_by_parameter": 3, "observe_by_parameter": 3}
KERNELS = (*CORE, *SENSITIVITY)


@dataclass(frozen=True)
class Compiled:
    """The compiled model.

    Attributes
    ----------
    model : Model
    system : mscrenal.model.stepper.System
        Kernels and tables, as the integrator takes them.
    placement : mscrenal.model.placing.PlacementTables or None
        None for a model of other things than patients.
    tangent : mscrenal.model.tangent.TangentTables or None
        Of the sensitivities; `with_gradient` adds them.
    by_rate, by_seen : tuple of (row, parameter)
        Patterns of the derivatives of rates and observables by parameters; empty without the sensitivities.
    hash : str
        SHA-256 of the generated code: it changes with any equation.

    The methods are the plain face of the kernels, functions of y: states (n_states,), p: parameters (n_parameters,),
    u: inputs (n_inputs,), each float64 in the order of `model`; they fill `out`.
    """

    model: Model
    system: System
    placement: PlacementTables | None
    hash: str
    tangent: TangentTables | None = None
    by_rate: tuple[tuple[int, int], ...] = ()
    by_seen: tuple[tuple[int, int], ...] = ()

    def _call(self, name: str, a: np.ndarray, b: np.ndarray, out: np.ndarray) -> None:
        from mscrenal.model import stepper

        a, b = (np.ascontiguousarray(x, dtype=np.float64) for x in (a, b))
        stepper.kernel(self.system.kernels[KERNELS.index(name)], a, b, out)

    def constants(self, p: np.ndarray, u: np.ndarray) -> np.ndarray:
        """What depends on parameters and inputs alone, (n_constants,)."""
        from mscrenal.model.stepper import N_ALL_CONSTANTS, N_CONSTANTS

        d = np.empty(max(self.system.sizes[N_CONSTANTS], self.system.sizes[N_ALL_CONSTANTS]))
        self._call("derive", p, u, d)
        if self.tangent is not None:
            self._call("derive_more", p, u, d)
        return d

    def _values(self, name: str, y: np.ndarray, p: np.ndarray, u: np.ndarray, n: int) -> np.ndarray:
        values = np.empty(n)
        self._call(name, y, self.constants(p, u), values)
        return values

    def rhs(self, y: np.ndarray, p: np.ndarray, u: np.ndarray, out: np.ndarray) -> None:
        """Time derivatives, out (n_states,), 1/day."""
        self._call("rates", y, self.constants(p, u), out)

    def jac(self, y: np.ndarray, p: np.ndarray, u: np.ndarray, out: np.ndarray) -> None:
        """Jacobian, out (n_states, n_states); only the entries of its pattern are written."""
        rows, columns = self.system.jac_rows, self.system.jac_columns
        out[rows, columns] = self._values("slopes", y, p, u, len(rows))

    def observe(self, y: np.ndarray, p: np.ndarray, u: np.ndarray, out: np.ndarray) -> None:
        """Observables, out (n_observables,)."""
        self._call("observe_at", y, self.constants(p, u), out)

    def observe_jac(self, y: np.ndarray, p: np.ndarray, u: np.ndarray, out: np.ndarray) -> None:
        """Derivatives of the observables, out (n_observables, n_states); only the pattern is written."""
        rows, columns = self.system.seen_rows, self.system.seen_columns
        out[rows, columns] = self._values("observe_slopes", y, p, u, len(rows))

    def rhs_by_parameter(self, y: np.ndarray, p: np.ndarray, u: np.ndarray, out: np.ndarray) -> None:
        """Derivatives of the rates by the parameters, out (n_states, n_parameters); with the sensitivities only."""
        rows, columns = np.array(self.by_rate).T
        out[rows, columns] = self._values("rates_by_parameter", y, p, u, len(rows))

    def observe_by_parameter(self, y: np.ndarray, p: np.ndarray, u: np.ndarray, out: np.ndarray) -> None:
        """Derivatives of the observables by the parameters, out (n_observables, n_parameters); as above."""
        rows, columns = np.array(self.by_seen).T
        out[rows, columns] = self._values("observe_by_parameter", y, p, u, len(rows))


def cache_folder() -> Path:
    """Where generated code is kept; MSCRENAL_CACHE overrides the user's cache folder."""
    return Path(os.environ.get("MSCRENAL_CACHE") or platformdirs.user_cache_dir("mscrenal"))


class _Once:
    """A function of a number that is called once for each, however many threads ask for it at the same time.

    `made` holds what it gave. `functools.cache` would let two threads that come first both compile, and one of them meet
    a module that the other is still importing.
    """

    _turn = RLock()  # one for all: numba's settings are shared, and `with_gradient` asks for `compiled`

    def __init__(self, function: Callable[[int], Compiled]) -> None:
        update_wrapper(self, function)
        self._function = function
        self.made: dict[int, Compiled] = {}

    def __call__(self, slots: int = 1) -> Compiled:
        if slots not in self.made:
            with self._turn:
                if slots not in self.made:
                    self.made[slots] = self._function(slots)
        return self.made[slots]


@_Once
def compiled(slots: int = 1) -> Compiled:
    """The compiled model for arms that mix at most `slots` products; from the cache when it was compiled before."""
    return compile_model(model(slots), _writable(cache_folder()), f"{definition_hash()[:20]}_{slots}")


@_Once
def with_gradient(slots: int = 1) -> Compiled:
    """As `compiled`, with the kernels of the sensitivities, which are made when first asked for."""
    return _add_gradient(compiled(slots), _writable(cache_folder()))


def compile_model(structure: Model, folder: Path, name: str = "", *, gradient: bool = False) -> Compiled:
    """Compile any model.

    Parameters
    ----------
    folder : Path
        Where the generated code and what numba made of it are kept.
    name : str
        Under which the code is found again without generating it; empty: by its content alone.
    gradient : bool
        Whether to add the kernels of the sensitivities.
    """
    # The sources of the package name the generated code, so that a warm start needs no sympy; and the code names
    # what numba compiled, so that an edit which leaves the equations alone costs no compilation.
    known = folder / f"definition_{name}.txt" if name else None
    digest = _digest(known, folder)
    if not digest:
        with _alone(folder):
            digest = _digest(known, folder)
            if not digest:
                source, _ = generate(structure)
                digest = hashlib.sha256((source + repr(structure.parameter_names)).encode()).hexdigest()
                _write(_source_file(folder, digest), source)
                if known is not None:
                    _write(known, digest)
    core = _load(_source_file(folder, digest), CORE, integrator=True)
    kernels = _compiled(structure, core, digest)
    return _add_gradient(kernels, folder) if gradient else kernels


def _digest(known: Path | None, folder: Path) -> str:
    """The hash of the code that `known` tells of, if that code is there."""
    digest = known.read_text(encoding="utf-8") if known is not None and known.exists() else ""
    return digest if digest and _source_file(folder, digest).exists() else ""


def _compiled(structure: Model, core: _Kernels, digest: str) -> Compiled:
    from mscrenal.model.placing import PlacementTables
    from mscrenal.model.stepper import System

    code = core.module
    lu = plan(len(structure.states), code.JAC_PATTERN)
    jac, seen = _columns(code.JAC_PATTERN), _columns(code.SEEN_PATTERN)
    counts = (code.N_CONSTANTS, len(structure.observables), len(jac[0]), len(seen[0]), len(lu.entries) + 1)
    at = np.array([lu.position[entry] for entry in code.JAC_PATTERN], dtype=np.int32)
    system = System(
        core.addresses, np.array((*counts, 0, 0, 0), dtype=np.int64), *jac, at, lu.diagonal, *seen
    )
    patients = "nephrons" in structure.index
    tables = (
        PlacementTables(*placement_tables(structure, code.JAC_PATTERN, code.SEEN_PATTERN))
        if patients
        else None
    )
    return Compiled(structure, system, tables, digest)


def _add_gradient(kernels: Compiled, folder: Path) -> Compiled:
    from mscrenal.model.stepper import N_ALL_CONSTANTS
    from mscrenal.model.tangent import TangentTables

    path = _source_file(folder, kernels.hash).with_suffix("")
    path = path.with_name(f"{path.name}_sensitivities.py")
    if not path.exists():
        with _alone(folder):
            if not path.exists():
                _write(path, generate(kernels.model)[1]())
    more = _load(path, SENSITIVITY, sensitivities=True)
    code, system = more.module, kernels.system
    pattern = list(zip(system.jac_rows.tolist(), system.jac_columns.tolist(), strict=True))
    solves = plan(len(kernels.model.states), pattern).programme[5:]
    sizes = system.sizes.copy()
    sizes[N_ALL_CONSTANTS:] = code.N_ALL_CONSTANTS, len(code.BY_RATE_PATTERN), len(code.BY_SEEN_PATTERN)
    tables = TangentTables(_columns(code.BY_RATE_PATTERN)[0], _columns(code.BY_SEEN_PATTERN)[0], *solves)
    return replace(
        kernels,
        system=system._replace(kernels=np.concatenate([system.kernels, more.addresses]), sizes=sizes),
        tangent=tables,
        by_rate=code.BY_RATE_PATTERN,
        by_seen=code.BY_SEEN_PATTERN,
    )


def _columns(pattern: Sequence[tuple[int, int]]) -> tuple[np.ndarray, np.ndarray]:
    table = np.array(pattern, dtype=np.int32).reshape(-1, 2)
    return np.ascontiguousarray(table[:, 0]), np.ascontiguousarray(table[:, 1])


def _source_file(folder: Path, digest: str) -> Path:
    return folder / f"kernels_{digest[:24]}.py"


def _write(path: Path, text: str) -> None:
    # Written beside and renamed, so that two processes starting together never read half a file.
    temporary = path.with_suffix(f".{os.getpid()}.tmp")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(path)


@dataclass(frozen=True)
class _Kernels:
    """Generated code, the machine code of its kernels (kept alive here), and their addresses."""

    module: ModuleType
    functions: tuple[Any, ...]
    addresses: np.ndarray


def _load(
    path: Path, kernels: Mapping[str, int], *, integrator: bool = False, sensitivities: bool = False
) -> _Kernels:
    """Import generated code and compile it, or take from disk what this interpreter compiled before."""
    with _numba_keeps_in(path.parent):
        return _load_here(path, kernels, integrator, sensitivities)


@contextmanager
def _numba_keeps_in(folder: Path) -> Iterator[None]:
    """What numba compiles meanwhile is kept in `folder`, unless the user said where.

    Left alone it would write beside the installed files, and refuse where it cannot.
    """
    import numba as nb

    given = nb.config.CACHE_DIR
    nb.config.CACHE_DIR = given or str(folder)
    try:
        yield
    finally:
        nb.config.CACHE_DIR = given


def _load_here(path: Path, kernels: Mapping[str, int], integrator: bool, sensitivities: bool) -> _Kernels:
    jobs = _integrator_jobs(integrator, sensitivities)
    ready = _ready_mark(path, jobs)
    if not ready.exists():
        with _alone(path.parent, _interpreter()):
            return _prepare(path, kernels, jobs, ready)
    return _prepare(path, kernels, jobs, ready)


def _prepare(path: Path, kernels: Mapping[str, int], jobs: Mapping[str, Any], ready: Path) -> _Kernels:
    import numba as nb

    module = _module(path)
    # Another process may have made it ready while this one waited for its turn.
    report = None if ready.exists() else _Preparing(len(kernels) + len(jobs))
    pointer = nb.types.CPointer(nb.float64)
    functions = []
    for name, arrays in kernels.items():
        if report is not None:
            report.show(name)
        make = nb.cfunc(nb.void(*[pointer] * arrays), cache=True, error_model="numpy", fastmath={"contract"})
        functions.append(make(getattr(module, name)))
    for name, job in jobs.items():
        if report is not None:
            report.show(name)
        job()
    if report is not None:
        report.done()
        _write(ready, "")
    return _Kernels(module, tuple(functions), np.array([f.address for f in functions], dtype=np.int64))


def _ready_mark(path: Path, jobs: Mapping[str, Any]) -> Path:
    """The file that says that `path` and `jobs` are compiled: by this interpreter, of these files of the integrator.

    numba knows the integrator by where its files lie and when they were written: another installation compiles anew.
    """
    sources = sorted({job.__code__.co_filename for job in jobs.values()})
    stamps = [(name, os.stat(name).st_mtime_ns, os.stat(name).st_size) for name in sources]
    integrator = hashlib.sha256(repr(stamps).encode()).hexdigest()[:8]
    return path.with_suffix(f".{_interpreter()}-{integrator}.ready")


def _interpreter() -> str:
    """Who made the machine code; another one has files of its own."""
    import numba as nb

    return f"{sys.implementation.cache_tag}-{nb.__version__}"


@contextmanager
def _alone(folder: Path, part: str = "code") -> Iterator[None]:
    """One process at a time makes this part of what is in `folder`: others wait, and find the work done.

    Two that compile the same function for different types could also take each other's machine code: numba counts
    its files without looking whether somebody else is counting.
    """
    from filelock import FileLock, Timeout  # here, so that a warm start goes without it

    lock = FileLock(folder / f"preparing.{part}.lock")
    # A file system without locks: both do the work, as each would alone.
    with suppress(NotImplementedError):
        try:
            lock.acquire(timeout=0)
        except Timeout:
            print(
                "mscrenal: waiting for another process that prepares the model ...",
                file=sys.stderr,
                flush=True,
            )
            lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _module(path: Path) -> ModuleType:
    stem = path.stem
    if stem in sys.modules:
        return sys.modules[stem]
    spec = importlib.util.spec_from_file_location(stem, path)
    if spec is None or spec.loader is None:
        raise ImportError(f"cannot load the generated model from {path}; delete the file and try again.")
    module = importlib.util.module_from_spec(spec)
    sys.modules[stem] = module
    spec.loader.exec_module(module)
    return module


def _integrator_jobs(integrator: bool, sensitivities: bool) -> dict[str, Any]:
    """What of the integrator itself has to be compiled; numba knows what it has on disk."""
    from mscrenal.model import placing, stepper, tangent

    jobs: dict[str, Any] = {}
    if integrator:
        jobs |= {"integrate": stepper.compile_all, "place": placing.compile_all}
    if sensitivities:
        jobs |= {"integrate_with": tangent.compile_all}
    return jobs


class _Preparing:
    """Says on standard error how far the compilation is: in one line that moves, or in one that stays."""

    def __init__(self, total: int) -> None:
        self.total, self.done_so_far, self.began = total, 0, time.monotonic()
        self.live = sys.stderr.isatty()
        if not self.live:
            text = "mscrenal: preparing the model for this machine, once (about a minute) ..."
            print(text, file=sys.stderr, flush=True)

    def show(self, name: str) -> None:
        """Announce the next part."""
        self.done_so_far += 1
        if self.live:
            text = f"mscrenal: preparing the model for this machine, once: {self.done_so_far} of {self.total} ({name})"
            print(f"\r{text:<90}", end="", file=sys.stderr, flush=True)

    def done(self) -> None:
        """Say how long it took."""
        if self.live:
            text = f"mscrenal: prepared in {time.monotonic() - self.began:.0f} s."
            print(f"\r{text:<90}", file=sys.stderr, flush=True)


def _writable(folder: Path) -> Path:
    """The folder, or a private temporary one where it cannot be written (a read-only home)."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return Path(tempfile.mkdtemp(prefix="mscrenal-"))
    return folder if os.access(folder, os.W_OK) else Path(tempfile.mkdtemp(prefix="mscrenal-"))
