"""Ours against solvers that nobody here wrote, on the whole model with doses, at matched error.

    python benchmarks/run.py                  all that is installed; writes docs/benchmarks.md and its figure
    python benchmarks/run.py --quick --json   under a minute; one JSON document on standard output

Peers come with `pip install 'mscrenal[bench]'`. One that lives in another environment, such as AMICI with its
compilers, is measured there: `--python amici=PATH/bin/python`.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

from measure import TASKS, Plan, Result, measure  # noqa: E402
from problem import Problem, make  # noqa: E402
from remote import PEERS, installed  # noqa: E402

QUICK = Plan(
    cases=21,
    gradient_cases=1,
    blocks=3,
    block_seconds=0.06,
    rung_seconds=0.5,
    configurations=1,
    fold=1,
    population_seconds=2.0,
    deadline=45.0,
    warm_seconds=17.0,
    cores=(1,),
    quick=True,
)
DRAWS = 20


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, and write what was asked for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--quick", action="store_true", help="under a minute, one configuration a peer; no docs"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON document and nothing else")
    parser.add_argument("--peers", default=",".join(PEERS), help=f"of: {', '.join(PEERS)}; default: all")
    parser.add_argument(
        "--python",
        action="append",
        default=[],
        metavar="PEER=PATH",
        help="the interpreter that has this peer",
    )
    parser.add_argument("--tasks", default=",".join(TASKS), help=f"of: {', '.join(TASKS)}; default: all")
    parser.add_argument("--docs", type=Path, default=HERE.parent / "docs", help="where the page is written")
    parser.add_argument("--no-docs", action="store_true", help="do not write the page")
    given = parser.parse_args(arguments)
    wanted = [name for name in given.peers.split(",") if name]
    tasks = tuple(name for name in given.tasks.split(",") if name)
    if not tasks or not set(tasks) <= set(TASKS):
        parser.error(f"--tasks {given.tasks!r}; allowed: {', '.join(TASKS)}.")
    unknown = [name for name in wanted if name not in PEERS]
    if unknown:
        parser.error(f"no peer {unknown[0]!r}; allowed: {', '.join(PEERS)}.")
    pythons = dict(pair.partition("=")[::2] for pair in given.python)
    if not set(pythons) <= set(PEERS) or not all(pythons.values()):
        parser.error(f"--python takes PEER=PATH with a peer of: {', '.join(PEERS)}.")

    began = time.monotonic()

    def say(what: str) -> None:
        print(f"[{time.monotonic() - began:5.0f} s] {what}", file=sys.stderr, flush=True)

    if given.quick:
        os.environ["MSCRENAL_BENCH_BUILD"] = "no"  # minutes of C++ are not for now
    problem, result = _run(wanted, pythons, replace(QUICK if given.quick else Plan(), tasks=tasks), say)
    # After the measurement, so that matplotlib is not loaded while clocks run.
    from report import document, figure, page, text_table

    found = document(result, problem, given.quick)
    if not (given.quick or given.no_docs):
        given.docs.joinpath("benchmarks.md").write_text(page(found), encoding="utf-8")
        drawn = figure(result)
        (given.docs / "figures").mkdir(parents=True, exist_ok=True)
        drawn.savefig(given.docs / "figures" / "work-precision.svg", metadata={"Date": None})
        drawn.savefig(given.docs / "figures" / "work-precision.png", dpi=130, metadata={"Software": None})
    print(json.dumps(found, indent=2) if given.json else text_table(found))
    return 0


def _run(wanted: list[str], pythons: dict[str, str], plan: Plan, say: object) -> tuple[Problem, Result]:
    entries = [PEERS[name] for name in wanted]
    there = [entry for entry in entries if installed(entry, pythons.get(entry.name))]
    with tempfile.TemporaryDirectory(prefix="mscrenal-bench-") as name:
        folder = Path(name)
        problem = make(
            DRAWS, plan.gradient_cases, crosschecked=plan.gradient_cases, variational=not plan.quick
        )
        problem.save(folder)
        result = measure(folder, there, plan, pythons, say)
    result.not_installed = [entry.name for entry in entries if entry not in there]
    return problem, result


if __name__ == "__main__":
    sys.exit(main())
