"""The page and the picture of a measurement."""

from __future__ import annotations

import os
import platform
import re
import subprocess
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as version_of
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
from matplotlib.figure import Figure
from measure import STRICT, TARGET, Curve, Result, cheapest
from precision import front
from problem import GRADIENT, Problem

from mscrenal.scenarios.style import FAINT, arm_styles, house_style

__all__ = ["describe_machine", "document", "figure", "page", "text_table"]

FIRST = "mscrenal"
PACKAGES = ("numpy", "scipy", "numba", "sympy", "pydiffsol", "libroadrunner", "amici", "diffrax", "jax")
TASKS = {
    "single": "One simulation",
    "gradient": "A simulation with 25 derivatives",
    STRICT: "The same, the derivatives as exact as the values",
    "population": "Population",
}


def describe_machine() -> dict[str, Any]:
    """Processor, cores, system and versions; nothing that names the machine."""
    model = platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        found = re.search(r"model name\s*:\s*(.+)", info.read_text(encoding="utf-8"))
        model = found[1].strip() if found else model
    elif platform.system() == "Darwin":
        asked = subprocess.run(
            ["sysctl", "-n", "machdep.cpu.brand_string"], check=False, capture_output=True, text=True
        )
        model = asked.stdout.strip() or model
    versions = {}
    for package in PACKAGES:
        try:
            versions[package] = version_of(package)
        except PackageNotFoundError:
            continue
    return {
        "cpu": model,
        "architecture": platform.machine(),
        "cores": os.cpu_count(),
        "system": platform.system(),
        "python": platform.python_version(),
        "packages": versions,
    }


def document(result: Result, problem: Problem, quick: bool) -> dict[str, Any]:
    """What `--json` prints."""
    ours: dict[str, float] = {}
    for row in result.rows:
        name = row["task"] + ("" if row["cores"] == 1 else f" on {row['cores']} cores")
        ours[name] = min(_rounded(row["ours_ms"]), ours.get(name, float("inf")))
    return {
        "ratios": [{k: _rounded(v) for k, v in row.items()} for row in result.rows],
        "matched_error": TARGET,
        "ours_ms": ours,
        "gradient_over_simulation": (
            _rounded(ours["gradient"] / ours["single"]) if {"gradient", "single"} <= ours.keys() else None
        ),
        "curves": [
            {
                "peer": curve.peer,
                "task": curve.task,
                "configuration": curve.configuration,
                "points": [
                    {"tolerance": p.tolerance, "error": _rounded(p.error), "ms": _rounded(1e3 * p.seconds)}
                    for p in curve.points
                    if p.error < float("inf")
                ],
                "failed": curve.failed,
            }
            for curve in result.curves
        ],
        "not_installed": result.not_installed,
        "problems": result.problems,
        "problem": {
            "states": len(problem.structure.states),
            "parameters": len(problem.structure.parameters),
            "cases": len(problem.cases),
            "gradient_parameters": list(GRADIENT),
            "reference_crosscheck": problem.crosscheck,
            "gradient_noise": problem.gradient_noise
            if problem.gradient_noise == problem.gradient_noise
            else None,
        },
        "machine": describe_machine() | {"versions": result.versions},
        "quick": quick,
    }


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return float(f"{value:.4g}")
    if isinstance(value, Mapping):
        return {k: _rounded(v) for k, v in value.items()}
    return value


# --------------------------------------------------------------------------- tables


def _digits(value: float | None) -> str:
    if value is None:
        return "–"
    if value >= 100:
        return f"{value:.0f}"
    return f"{value:.3g}" if value >= 0.1 else f"{value:.2g}"


def _error(row: Mapping[str, Any], side: str) -> str:
    return f"{row[f'{side}_error']:.0e}".replace("e-0", "e-")


def _between(spread: Mapping[str, float]) -> str:
    return f"{_digits(spread['min'])} to {_digits(spread['max'])}"


def table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [" | ".join(headings), " | ".join("---" for _ in headings), *(" | ".join(row) for row in rows)]
    return "\n".join(f"| {line} |" for line in lines)


def _goal(row: Mapping[str, Any]) -> str:
    if not row["goal"]:
        return "–"
    return f"{row['goal']:g}: {'met' if row['ratio'] >= row['goal'] else '**missed**'}"


def _ratios(rows: Sequence[Mapping[str, Any]]) -> str:
    cells = [
        (
            f"{row['peer']} {row['version']}",
            row["configuration"],
            _digits(row["ours_ms"]),
            _digits(row["peer_ms"]),
            f"**{_digits(row['ratio'])}**",
            _between(row["spread"]),
            _goal(row),
            f"{_error(row, 'ours')}, {_error(row, 'peer')}",
        )
        for row in rows
    ]
    return table(
        ("Peer", "Configuration", "Ours, ms", "Peer, ms", "Ratio", "Ratio in pairs of blocks", "Goal", "Errors"),
        cells,
    )  # fmt: skip


def text_table(document: Mapping[str, Any]) -> str:
    """What is shown on the terminal."""
    lines = [f"{'peer':15} {'task':12} {'cores':>5} {'ours ms':>9} {'peer ms':>9} {'ratio':>7}  spread"]
    lines += [
        f"{row['peer']:15} {row['task']:12} {row['cores']:>5} {_digits(row['ours_ms']):>9} "
        f"{_digits(row['peer_ms']):>9} {_digits(row['ratio']):>7}  {_between(row['spread'])}"
        for row in document["ratios"]
    ]
    lines += [f"not installed: {name}" for name in document["not_installed"]]
    lines += [f"{name}: {what}" for name, what in document["problems"].items()]
    return "\n".join(lines)


# --------------------------------------------------------------------------- page


def page(document: Mapping[str, Any]) -> str:
    """The page docs/benchmarks.md."""
    machine, problem = document["machine"], document["problem"]
    packages = ", ".join(f"{name} {v}" for name, v in (machine["packages"] | machine["versions"]).items())
    parts = [
        "# Benchmarks",
        "<!-- Written by benchmarks/run.py; do not edit. -->",
        "How long the whole model takes here and in solvers that nobody here wrote, at the same achieved error. Every number is "
        "written by one run of `python benchmarks/run.py`; the peers come with the extra `bench`.",
        "## What is measured",
        _method(problem, document["matched_error"]),
        f"Machine: {machine['cpu']}, {machine['cores']} cores, {machine['system']} on {machine['architecture']}; Python "
        f"{machine['python']}; {packages}.",
    ]
    for task, title in TASKS.items():
        rows = [row for row in document["ratios"] if row["task"] == task]
        if task == "population":
            parts += _populations(rows)
        elif rows:
            parts += [f"## {title}", _ratios(rows)]
        if task == "gradient" and document["gradient_over_simulation"]:
            parts.append(
                f"Ours, gradient over simulation: {_digits(document['gradient_over_simulation'])} (goal: at most 10). The error of the "
                "values is matched here; that of the derivatives which come with them is "
                + "; ".join(
                    f"{row['ours_gradient_error']:.0e} (ours) and {row['peer_gradient_error']:.0e} ({row['peer']})"
                    for row in rows
                )
                + ", relative to the largest slope of that observable."
            )
    parts += [
        "## Work and precision",
        "![Time of a simulation, and of a simulation with 25 derivatives, against the achieved error, for each "
        "simulator](figures/work-precision.png)",
        "Each point is one tolerance. Down and to the left is better.",
        "## How each peer is run",
        _configurations(document),
    ]
    absent = [f"- {name}: not installed" for name in document["not_installed"]]
    absent += [f"- {name}: {what}" for name, what in document["problems"].items()]
    if absent:
        parts += ["## What is missing", "\n".join(absent)]
    return "\n\n".join(parts) + "\n"


def _method(problem: Mapping[str, Any], target: float) -> str:
    return "\n".join(
        [
            f"- **Problem**: {problem['states']} states, {problem['parameters']} parameters; a diabetic patient on a RAS blocker and an "
            "SGLT2 inhibitor, UC cells at 1e6/kg in three weekly infusions of an hour, 48 weeks, weekly eGFR and UACR. "
            "The initial state is placed beforehand, for everybody.",
            f"- **Error**: the largest relative error of eGFR and UACR over all output times and {problem['cases']} cases (the medians "
            f"and draws from the priors), against LSODA at a tolerance of 1e-11, from which SciPy's Radau differs by "
            f"{problem['reference_crosscheck']:.0e}. Derivatives: against LSODA on the variational equations, relative to the largest "
            f"slope of that observable; finite differences of the reference differ from them by {problem['gradient_noise'] or 0:.0e}.",
            f"- **Matched error**: each simulator climbs a ladder of tolerances. Of its points only those count that no other "
            f"beats in error and time; between the two around {target:.0e} the time is interpolated, linear in the logarithms. "
            "Nothing is extrapolated: a simulator whose loosest point is better still is given that point, and its error is shown.",
            "- **Time**: whole calls as Python sees them, best of many, on one core, at the medians; ours and the peer's in turns, as "
            "clocks drift. The ratio is that of the best times; beside it the range over pairs of neighbouring blocks.",
            "- **Ratio**: the peer's time over ours; above 1, ours is faster.",
        ]
    )


def _populations(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    if not rows:
        return []
    cells = [
        (
            f"{row['peer']} {row['version']}",
            row["configuration"],
            str(row["cores"]),
            _digits(row["ours_ms"]),
            _digits(row["peer_ms"]),
            f"**{_digits(row['ratio'])}**",
            _between(row["spread"]),
        )
        for row in rows
    ]
    return [
        "## Population",
        "Many draws, milliseconds per simulation. A peer without threads of its own gets one process for each core.",
        table(("Peer", "Configuration", "Cores", "Ours, ms", "Peer, ms", "Ratio", "Range"), cells),
    ]


def _configurations(document: Mapping[str, Any]) -> str:
    rows = []
    for curve in document["curves"]:
        points = sorted(curve["points"], key=lambda p: p["error"])
        near = min(
            (p for p in points if p["error"] <= document["matched_error"]),
            key=lambda p: p["ms"],
            default=None,
        )
        shown = ("–", "–", "–")
        if near:
            shown = (f"{near['tolerance']:.0e}", f"{near['error']:.1e}", _digits(near["ms"]))
        chosen = any(
            row["task"] == curve["task"] and curve["configuration"] in (row["configuration"], row["ours_configuration"])
            for row in document["ratios"]
            if curve["peer"] in (row["peer"], FIRST)
        )  # fmt: skip
        rows.append((curve["peer"], curve["task"], curve["configuration"], *shown, "yes" if chosen else ""))
    return (
        "All configurations that were tried, at the cheapest tolerance of the ladder that reaches the matched error; the "
        "fastest of each peer stands in the tables above.\n\n"
        + table(("Simulator", "Task", "Configuration", "Tolerance", "Error", "ms", "Chosen"), rows)
    )


# --------------------------------------------------------------------------- picture


def figure(result: Result) -> Figure:
    """Work against precision: one panel a task, one line a simulator, its best configuration."""
    tasks = [t for t in ("single", "gradient") if any(c.task == t for c in result.curves)]
    peers = list(dict.fromkeys(c.peer for c in result.curves))
    styles = arm_styles(peers, FIRST)
    with house_style():
        drawn, panels = plt.subplots(
            1, len(tasks), figsize=(3.9 * len(tasks), 3.6), squeeze=False, layout="constrained"
        )
        for panel, task in zip(panels[0], tasks, strict=True):
            for peer in peers:
                curve = _best(result.curves, peer, task)
                if curve is None:
                    continue
                points = front(curve.points)
                panel.plot(
                    [p.error for p in points],
                    [1e3 * p.seconds for p in points],
                    marker=styles[peer].marker,
                    markersize=4,
                    label=peer,
                    **styles[peer].drawn,
                )
            panel.axvline(TARGET, color=FAINT, linewidth=0.8, linestyle=":", zorder=0)
            panel.set(xscale="log", yscale="log", xlabel="Achieved relative error", ylabel="ms per call")
            panel.set_title(TASKS[task])
            panel.grid(which="minor", visible=False)
        handles = {h.get_label(): h for p in panels[0] for h in p.get_lines() if h.get_label() in peers}
        drawn.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=min(6, len(handles)))
    return drawn


def _best(curves: Sequence[Curve], peer: str, task: str) -> Curve | None:
    mine = [c for c in curves if c.peer == peer and c.task == task]
    return cheapest(mine) or next((c for c in mine if front(c.points)), None)
