"""Every published row: what becomes of it and, where the model predicts it, the number beside the prediction.

Predictions take minutes and the probability model of the calibration, so that they ship as a file, stamped with what they
were computed from. Three kinds of them are never one number: rows that were *fitted* (predicted in-sample, the study's
own level and potency known), rows of *held-out* studies (each predicted as a new study), and rows that were only
*compared*, as they overlap fitted ones (predicted as of a new study, too).
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import pandas as pd

from mscrenal.calibration import shipped_posterior
from mscrenal.calibration.evidence import evidence_hash, load
from mscrenal.calibration.observations import Datum, observe, observe_study
from mscrenal.calibration.posterior import SHIPPED as POSTERIOR_FILE
from mscrenal.calibration.posterior import Posterior
from mscrenal.calibration.studies import Study, maps_hash, roles, studies
from mscrenal.model import PRODUCTS
from mscrenal.model.definition import model_hash

__all__ = [
    "DRAWS",
    "NO_CELLS",
    "OTHER",
    "PREDICTED_FILE",
    "SEED",
    "EvidenceFileError",
    "Predictions",
    "address_of",
    "compared_only",
    "evidence_rows",
    "predict_rows",
    "read_predictions",
    "shipped_predictions",
    "stamp",
    "write_predictions",
]

PREDICTED_FILE = Path(__file__).parent / "evidence_predictions.json"
DRAWS, SEED = 400, 1  # as the page of validation, so that both show the same numbers
NO_CELLS, OTHER = "none", "other"
MEND = "Run `python docs/build_pages.py predictions` in a clone, or reinstall the package."
# Where an identifier of the tables leads: pattern and address.
ADDRESSES = (
    (re.compile(r"10\.\d{4,}/\S+"), "https://doi.org/{}"),
    (re.compile(r"PMID:(\d+)"), "https://pubmed.ncbi.nlm.nih.gov/{}/"),
    (re.compile(r"(PMC\d+)"), "https://pmc.ncbi.nlm.nih.gov/articles/{}/"),
    (re.compile(r"(NCT\d{8})"), "https://clinicaltrials.gov/study/{}"),
)
# Of a prediction, in the order of the file. `observed_low` to `observed_high` and `low90` to `high90` are 90 % intervals.
COLUMNS = (
    *("table", "row", "class", "observable", "measure", "arm", "against", "day", "species", "treated", "benefit", "log"),
    *("unit", "observed", "observed_low", "observed_high", "predicted", "low50", "high50", "low90", "high90"),
    *("z", "inside50", "inside90", "draws"),
)  # fmt: skip


class EvidenceFileError(ValueError):
    """The file of predictions is missing, damaged, or of another model, posterior or evidence."""


def address_of(identifier: str) -> str:
    """Where a DOI, PMID, PMC or registry number leads; empty if it is none of them.

    >>> address_of("PMID:4056570")
    'https://pubmed.ncbi.nlm.nih.gov/4056570/'
    """
    for pattern, address in ADDRESSES:
        if found := pattern.fullmatch(identifier):
            return address.format(found[found.lastindex or 0])
    return ""


# --------------------------------------------------------------------------- predictions


@dataclass(frozen=True)
class Predictions:
    """Published rows beside what the posterior predicts for them.

    Attributes
    ----------
    rows : DataFrame
        Columns `COLUMNS`; numbers on the scale of the source.
    unscored : DataFrame
        table, row, reason: rows that have a prediction which tests nothing.
    stamp : mapping of str to str
        What they were computed from; see `stamp`.
    """

    rows: pd.DataFrame
    unscored: pd.DataFrame
    stamp: Mapping[str, Any]


def stamp() -> dict[str, Any]:
    """What predictions depend on: hashes of model, posterior, evidence and maps; draws and seed."""
    return {
        "model": model_hash(),
        "posterior": hashlib.sha256(POSTERIOR_FILE.read_bytes()).hexdigest(),
        "evidence": evidence_hash(),
        "maps": maps_hash(),
        "draws": DRAWS,
        "seed": SEED,
    }


def compared_only() -> tuple[dict[str, Study], frozenset[tuple[str, int]]]:
    """Studies with rows of the role `check` that say how they are predicted.

    Returns
    -------
    dict of str to Study
        With these rows to be predicted, beside those that are fitted: one of them may set the level that others are
        compared with.
    frozenset of (str, int)
        Table and line of the rows.
    """
    found: dict[str, Study] = {}
    lines: set[tuple[str, int]] = set()
    for key, study in studies().items():
        ready = [e is not None and e.role == "check" and bool(e.arm and e.observable) for e in study.maps]
        if not any(ready):
            continue
        found[key] = replace(
            study,
            maps=tuple(
                entry.model_copy(update={"role": "fit"}) if mine and entry is not None else entry
                for entry, mine in zip(study.maps, ready, strict=True)
            ),
        )
        rows = study.rows[ready]
        lines |= {(str(t), int(n)) for t, n in zip(rows["table"], rows["line"], strict=True)}
    return found, frozenset(lines)


def predict_rows(
    posterior: Posterior | None = None, only: Sequence[str] | None = None, workers: int | None = None
) -> Predictions:
    """Compute the predictions anew: minutes, and PyMC has to be there.

    Parameters
    ----------
    posterior : Posterior, optional
        Default: the one that ships.
    only : sequence of str, optional
        Identifiers of studies to be simulated and scored; default: all.
    workers : int, optional
        Threads; the numbers do not depend on it.
    """
    from mscrenal.calibration.assess import held_out_studies

    source = shipped_posterior() if posterior is None else posterior
    unseen = held_out_studies()
    checks, lines = compared_only()
    parts, unscored = [_fitted(source, only)], []
    tasks = (
        ([d for s in unseen.values() for d in observe([s])], unseen, None),
        ([d for s in checks.values() for d in observe_study(s)], {s.id: s for s in checks.values()}, lines),
    )
    for data, given, kept in tasks:
        mine = [d for d in data if only is None or d.study in only]
        if mine:
            table, left = _as_new(mine, given, source, kept, workers)
            parts.append(table)
            unscored += left
    return Predictions(
        pd.concat(parts, ignore_index=True)[list(COLUMNS)],
        pd.DataFrame(unscored, columns=["table", "row", "reason"]),
        stamp(),
    )


def _fitted(posterior: Posterior, only: Sequence[str] | None) -> pd.DataFrame:
    from mscrenal.calibration.assess import fitted_distributions, fitted_rows, row_table, score

    data, given = fitted_rows(posterior)
    location, scale = fitted_distributions(posterior, data, given)
    kept = [k for k, d in enumerate(data) if only is None or d.study in only]
    mine = [data[k] for k in kept]
    value = pd.Series([d.value for d in mine], dtype=float).to_numpy()
    table = row_table(mine, value, score(value, location[:, kept], scale[:, kept]))
    return _with_published(table, mine)


def _as_new(
    data: Sequence[Datum],
    given: Mapping[str, Study],
    posterior: Posterior,
    kept: frozenset[tuple[str, int]] | None,
    workers: int | None,
) -> tuple[pd.DataFrame, list[dict[str, Any]]]:
    """Rows of studies predicted as new ones, and those that only set a level; of both those that are `kept`."""
    from mscrenal.calibration.assess import validate

    found = validate(data, given, posterior, n=DRAWS, seed=SEED, workers=workers)
    # An assessment names a skipped row by study and line; a study's rows to be predicted lie in one table.
    table_of = {(d.study, d.line): d.table for d in data}
    left = [
        {"table": table_of[s["study"], s["row"]], "row": int(s["row"]), "reason": s["reason"]}
        for s in found.skipped
    ]
    rows = _with_published(found.rows, data)
    if kept is not None:
        rows = rows[[(t, n) in kept for t, n in zip(rows["table"], rows["row"], strict=True)]]
        left = [s for s in left if (s["table"], s["row"]) in kept]
    return rows, left


def _with_published(table: pd.DataFrame, data: Sequence[Datum]) -> pd.DataFrame:
    from mscrenal.calibration.assess import published_interval

    by_line = {(d.table, d.line): d for d in data}
    mine = [by_line[t, n] for t, n in zip(table["table"], table["row"], strict=True)]
    ends = [published_interval(d) for d in mine]
    return table.assign(
        observed_low=[low for low, _ in ends],
        observed_high=[high for _, high in ends],
        log=[d.log for d in mine],
    )


# --------------------------------------------------------------------------- the file


def write_predictions(found: Predictions, path: str | os.PathLike[str] = PREDICTED_FILE) -> Path:
    """Write predictions as JSON, one row a line."""

    def line(values: Sequence[Any]) -> str:
        return json.dumps([_plain(v) for v in values], ensure_ascii=False)

    head = json.dumps(dict(found.stamp), indent=1)
    rows = ",\n".join(line(r) for r in found.rows[list(COLUMNS)].itertuples(index=False, name=None))
    left = ",\n".join(line(r) for r in found.unscored.itertuples(index=False, name=None))
    text = f'{{"stamp": {head},\n"columns": {json.dumps(COLUMNS)},\n"rows": [\n{rows}\n],\n"unscored": [\n{left}\n]}}\n'
    target = Path(path)
    target.write_text(text, encoding="utf-8", newline="\n")
    return target


def _plain(value: Any) -> Any:
    """Five significant digits of a number, as they are shown; null for none."""
    if isinstance(value, str | bool):
        return value
    if hasattr(value, "item"):
        value = value.item()
    if isinstance(value, float):
        return float(f"{value:.5g}") if math.isfinite(value) else None
    return value


def read_predictions(path: str | os.PathLike[str] = PREDICTED_FILE) -> Predictions:
    """Read a file of `write_predictions`.

    Raises
    ------
    EvidenceFileError
        If it is missing or damaged, or was computed from another model, posterior or evidence than those installed.
    """
    target = Path(path)
    try:
        found = json.loads(target.read_text(encoding="utf-8"))
        rows = pd.DataFrame(found["rows"], columns=found["columns"])
        unscored = pd.DataFrame(found["unscored"], columns=["table", "row", "reason"])
        told = dict(found["stamp"])
        missing = [name for name in COLUMNS if name not in rows]
    except OSError:
        raise EvidenceFileError(f"{target.name}: no such file. {MEND}") from None
    except (ValueError, KeyError, TypeError) as error:
        raise EvidenceFileError(
            f"{target.name}: no file of predictions, or damaged ({error}). {MEND}"
        ) from None
    if missing:
        raise EvidenceFileError(f"{target.name}: lacks the column {missing[0]!r}. {MEND}")
    for name, now in stamp().items():
        if told.get(name) != now:
            raise EvidenceFileError(
                f"{target.name}: computed with {name} {str(told.get(name))[:12]}; installed is {str(now)[:12]}. {MEND}"
            )
    numbers = ["day", "observed", "observed_low", "observed_high", "predicted", "low50", "high50", "low90", "high90", "z"]  # fmt: skip
    return Predictions(rows.astype(dict.fromkeys(numbers, float)), unscored, told)


@cache
def shipped_predictions() -> Predictions:
    """The predictions of the package; EvidenceFileError as of `read_predictions`."""
    return read_predictions()


# --------------------------------------------------------------------------- all rows


@cache
def evidence_rows() -> pd.DataFrame:
    """Every row of the evidence: what was published, its role and reason, and the prediction where there is one.

    Returns
    -------
    DataFrame
        One line a row, indexed "table:line", with the columns of `mscrenal.calibration.evidence.load` and ``key`` (of
        `studies`), ``role``, ``reason``; ``given`` (a product of the model, `NO_CELLS` or `OTHER`), ``simulated`` (the disease of who
        is simulated; empty if nobody is), ``kinds`` (species, simulated or as printed); ``predicted`` and its fellows (NaN without),
        with the prefix ``p_`` where the tables have a column of that name; ``unscored``, why a row that could be
        predicted is not compared.

    Raises
    ------
    EvidenceFileError
        As of `read_predictions`.
    """
    found = shipped_predictions()
    rows = load()
    rows.index = pd.Index(_names(rows["table"], rows["line"]))
    told = roles()
    told.index = pd.Index(_names(told["table"], told["line"]))
    rows = rows.join(told[["role", "reason"]])
    extra = [
        {"name": name, "key": key, "given": given, "simulated": disease, "kinds": kinds}
        for key, study in studies().items()
        for name, given, disease, kinds in _who(study)
    ]
    rows = rows.join(pd.DataFrame(extra).set_index("name"))
    predicted = found.rows.set_index(pd.Index(_names(found.rows["table"], found.rows["row"])))
    predicted = predicted.drop(columns=["table", "row"])
    predicted = predicted.rename(columns={c: f"p_{c}" for c in predicted if c in rows})
    left = found.unscored.set_index(pd.Index(_names(found.unscored["table"], found.unscored["row"])))[
        "reason"
    ]
    out = rows.join(predicted).join(left.rename("unscored"))
    return out.assign(unscored=out["unscored"].fillna(""))


def _names(tables: pd.Series, lines: pd.Series) -> list[str]:
    return [f"{t}:{n}" for t, n in zip(tables, lines, strict=True)]


def _who(study: Study) -> list[tuple[str, str, str, str]]:
    """Of each row: its name, what was given, the disease of who is simulated, and the species."""
    out = []
    for (_, row), entry in zip(study.rows.iterrows(), study.maps, strict=True):
        name = f"{row['table']}:{row['line']}"
        if entry is not None and entry.arm:
            arms = [study.arms[a] for a in (entry.arm, entry.against) if a]
            given = next((a.product for a in arms if a.product), NO_CELLS)
            out.append((name, given, arms[0].patient.disease, arms[0].patient.species))
            continue
        source = str(row["cell_source"])
        given = source if source in PRODUCTS else NO_CELLS if source == "none" else OTHER
        out.append((name, given, "", str(row["species"])))
    return out
