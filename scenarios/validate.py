"""The posterior against rows that it never saw: the held-out studies, or any file in the evidence schema."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import xarray as xr

from mscrenal.calibration.evidence import TABLES, evidence_hash, read_table
from mscrenal.calibration.observations import observe
from mscrenal.calibration.posterior import Posterior, PosteriorError, read_posterior, shipped_posterior
from mscrenal.calibration.studies import read_studies, studies
from mscrenal.calibration.unseen import AssessmentError, Mapped, map_rows
from mscrenal.scenarios.results import Result, plain

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from mscrenal.calibration.assess import Assessment

__all__ = ["ValidateResult", "validate"]

DRAWS = 400
INTERVAL = {"ci50": ("low50", "high50"), "ci90": ("low90", "high90")}


@dataclass(frozen=True, kw_only=True, eq=False)
class ValidateResult(Result):
    """Published rows beside their posterior predictive. Made by `mscrenal.scenarios.validate`.

    Attributes
    ----------
    assessment : Assessment
    skipped : tuple of dict
        row, study, endpoint, reason, of every row that is not compared.
    n_rows : int
        Rows of the file, or of the held-out studies that are to be predicted.
    """

    assessment: Assessment
    skipped: tuple[Mapping[str, Any], ...]
    n_rows: int

    @property
    def origin(self) -> str:
        """What the predictions rest on."""
        return "posterior"

    @property
    def table(self) -> pd.DataFrame:
        """One line a row that was compared; columns as of `mscrenal.calibration.assess.row_table`."""
        return self.assessment.rows

    @property
    def skipped_table(self) -> pd.DataFrame:
        """The rows that were not compared, and why."""
        return pd.DataFrame(list(self.skipped), columns=["row", "study", "endpoint", "reason"])

    @property
    def tables(self) -> dict[str, pd.DataFrame]:
        """Rows, coverage by class and study, skipped rows."""
        from mscrenal.calibration.assess import coverage_by

        return {
            "validate": self.table,
            "coverage_by_class": coverage_by(self.table, "class"),
            "coverage_by_study": coverage_by(self.table, "study"),
            "skipped": self.skipped_table,
        }

    @property
    def data(self) -> xr.Dataset:
        """Published values and predictive quantiles by row ("table:line")."""
        table = self.table
        columns = [c for c in table if np.issubdtype(np.asarray(table[c]).dtype, np.number) and c != "row"]
        names = [f"{t}:{n}" for t, n in zip(table["table"], table["row"], strict=True)]
        return xr.Dataset(
            {c: ("row", table[c].to_numpy(dtype=float)) for c in columns},
            coords={"row": names, "unit": ("row", list(table["unit"]))},
        )

    @property
    def failures(self) -> Sequence[Mapping[str, Any]]:
        """Simulations that failed: study, arm, draw, status, message; the first of them."""
        return self.assessment.failures

    @property
    def n_failed(self) -> int:
        """How many failed."""
        return self.assessment.n_failed

    @property
    def band_note(self) -> str:
        """What the numbers are, for captions."""
        draws = self.provenance["draws"]
        return (
            f"posterior predictive of new studies, {draws} draws; {len(self.table)} of {self.n_rows} rows compared, "
            f"{len(self.skipped)} skipped"
        )

    def elpds(self) -> dict[str, float]:
        """Sums of log predictive densities over the same rows: of the model and its rivals."""
        return {
            "elpd": self.assessment.elpd(),
            "elpd_no_effect": self.assessment.elpd("no_effect"),
            "elpd_pooled": self.assessment.elpd("pooled"),
        }

    def plot(self) -> dict[str, Figure]:
        """Figures: rows, pit, coverage; none without a row."""
        from mscrenal.scenarios import assess_figures as figures

        if not len(self.table):
            return {}
        return {
            "predicted_observed": figures.rows_figure(self.table, self.title),
            "pit": figures.pit_figure(self.table, "Probability integral transform"),
            "coverage": figures.coverage_figure(self.table, "Coverage by class"),
        }

    def to_json(self) -> dict[str, Any]:
        """`rows, used, skipped[], coverage50, coverage90, z_rms, elpd…, per_row[]` of the interface."""
        from mscrenal.calibration.assess import coverage_by

        per_row = []
        for record in self.table.to_dict("records"):
            line = {k: v for k, v in record.items() if k not in ("low50", "high50", "low90", "high90")}
            per_row.append(line | {name: [record[a], record[b]] for name, (a, b) in INTERVAL.items()})
        found = self.assessment
        document = self._document() | {
            "command": self.command,
            "title": self.title,
            "rows": self.n_rows,
            "used": len(self.table),
            "skipped": [dict(s) for s in self.skipped],
            "coverage50": found.coverage50,
            "coverage90": found.coverage90,
            "z_rms": found.z_rms,
            **self.elpds(),
            "n_failed": self.n_failed,
            "by_class": coverage_by(self.table, "class").to_dict("records"),
            "per_row": per_row,
        }
        cleaned: dict[str, Any] = plain(document)
        return cleaned


def validate(
    file: str | os.PathLike[str] | None = None,
    *,
    studies_file: str | os.PathLike[str] | None = None,
    posterior: Posterior | str | os.PathLike[str] | None = None,
    draws: int = DRAWS,
    seed: int = 1,
    workers: int | None = None,
    rivals: bool = True,
    progress: Callable[[int, int, str], None] | None = None,
) -> ValidateResult:
    """Compare published rows with what the posterior predicts for them, each study as a new one.

    Parameters
    ----------
    file : path, optional
        A CSV file in the evidence schema; default: the shipped studies that no likelihood saw.
    studies_file : path, optional
        A TOML file that says how rows of `file` become predictions, as those in ``calibration/evidence/studies``. Studies
        that it does not name follow the shipped maps or, where these do not know them, rules of their columns.
    posterior : Posterior or path, optional
        Default: the one that ships. It is never changed.
    draws : int
        Posterior draws, 20 or more.
    rivals : bool
        Whether to fit "no MSC effect" and "pooled meta-analytic effect" for comparison (half a minute).

    Raises
    ------
    EvidenceError
        For a file that breaks the schema, naming file, line, column, what was found and what is allowed.
    PosteriorError
        For a posterior that is none, is damaged, or belongs to another model.
    AssessmentError
        For options that do not go together, and without the extra ``calibrate``.
    """
    if find_spec("pymc") is None:
        raise AssessmentError(
            "validate needs the probability model of the calibration, and PyMC is not there. "
            'Install the extra that brings it: pip install "mscrenal[calibrate]".'
        )
    from mscrenal.calibration.assess import validate as assess

    found = shipped_posterior() if posterior is None else posterior
    if not isinstance(found, Posterior):
        found = read_posterior(found)
    if file is None and studies_file is not None:
        raise AssessmentError("--studies was given without FILE.csv: the shipped studies have their maps.")
    mapped, n_rows, title = _held_out() if file is None else _of_file(Path(file), studies_file)
    others, note = _rivals(found, draws, seed, workers) if rivals and mapped.data else (None, "")
    assessment = assess(
        mapped.data,
        mapped.studies,
        found,
        n=draws,
        seed=seed,
        workers=workers,
        rivals=others,
        progress=progress,
    )
    skipped = [
        {"row": s.row, "study": s.study, "endpoint": s.endpoint, "reason": s.reason} for s in mapped.skipped
    ]
    return ValidateResult(
        command="validate",
        title=title,
        question="Do published numbers lie where the posterior says?",
        provenance=_provenance(found, mapped, draws, seed, note),
        assessment=_with_roles(assessment, found),
        skipped=(*skipped, *assessment.skipped),
        n_rows=n_rows,
    )


def _held_out() -> tuple[Mapped, int, str]:
    from mscrenal.calibration.assess import held_out_studies

    given = held_out_studies()
    data = tuple(observe(given.values()))
    mine = {d.study: given[d.study] for d in data}
    return Mapped(mine, data, (), {}, ()), len(data), "Held-out studies beside the posterior predictive"


def _of_file(path: Path, studies_file: str | os.PathLike[str] | None) -> tuple[Mapped, int, str]:
    table = path.stem if path.stem in TABLES else ""
    rows = read_table(path, table=table)
    own = [] if studies_file is None else read_studies(Path(studies_file), rows)
    mapped = map_rows(rows, studies().values(), own)
    return mapped, len(rows), f"{path.name} beside the posterior predictive"


def _rivals(posterior: Posterior, draws: int, seed: int, workers: int | None) -> tuple[Any, str]:
    """The rivals, or why there are none: a hand-made posterior may hold rows that the package does not."""
    from mscrenal.calibration.inference import ModeError
    from mscrenal.calibration.rivals import fit_rivals

    try:
        return fit_rivals(posterior, n=draws, seed=seed, workers=workers), ""
    except (ModeError, PosteriorError) as error:
        return None, f"The rivals are not computed: {error}"


def _with_roles(found: Assessment, posterior: Posterior) -> Assessment:
    """Say of each row whether the posterior saw it."""
    seen = {str(n) for n in posterior.data["row"].values}
    names = found.rows["table"].astype(str) + ":" + found.rows["row"].astype(str)
    rows = found.rows.assign(fitted=[bool(n in seen) for n in names])
    return replace(found, rows=rows)


def _provenance(posterior: Posterior, mapped: Mapped, draws: int, seed: int, note: str) -> dict[str, Any]:
    try:
        package = version("mscrenal")
    except PackageNotFoundError:
        package = "unknown"
    seen = {str(n) for n in posterior.data["row"].values}
    fitted = sum(f"{d.table}:{d.line}" in seen for d in mapped.data)
    given = {mapped.studies[d.study].arms[t.arm].product for d in mapped.data for t in d.terms} - {""}
    potent = {str(n) for n in posterior.data["study_name"].values}
    learnt = {arm.product for s in studies().values() if s.id in potent for arm in s.arms.values()}
    new = sorted(given - learnt)
    kept = ("version", "model_hash", "evidence_hash", "seed", "studies", "rows", "sampler", "draft")
    return {
        "package": "mscrenal",
        "version": package,
        "evidence_hash": evidence_hash(),
        "origin": "posterior",
        "posterior": {k: posterior.provenance[k] for k in kept if k in posterior.provenance},
        "draws": draws,
        "seed": seed,
        "extrapolated": [
            f"{name}: no study of the fit gave it; how strongly it acts is drawn from the spread between products."
            for name in new
        ],
        "assumptions": [
            "Each study is predicted as one that the fit never saw: the potency of its cells, its own level and the residual "
            "are drawn anew; parameters that were not calibrated from their priors.",
            "Where only contrasts within a study count, its first untreated row sets the level and is not scored.",
            "z is the standard normal score of the share of the predictive distribution below the published value; elpd sums "
            "the logarithms of the predictive density on the scale of the comparison.",
            *(
                [f"{fitted} of the rows stood in the likelihood of this posterior: of them this is no validation."]
                if fitted else []
            ),
            *mapped.assumptions,
            *([note] if note else []),
        ],
    }  # fmt: skip
