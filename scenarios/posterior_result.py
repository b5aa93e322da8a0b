"""What a posterior is, as a result: its data, how well it was sampled, and what each parameter learnt from what."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import xarray as xr

from mscrenal.calibration import Posterior
from mscrenal.calibration.posterior import SHIPPED
from mscrenal.model import sampled_parameters
from mscrenal.scenarios.results import Result, plain
from mscrenal.scenarios.sensitivity_result import label_of
from mscrenal.scenarios.sources import BY_PRIOR, Source, backing, origin_words, posterior_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["CalibrateResult", "PosteriorResult", "module_of", "posterior", "posterior_result"]

# 90 % of a standard normal distribution.
QUANTILES = (0.05, 0.5, 0.95)
LIMIT = 1.6448536269514722
DIAGNOSTICS = ("divergences", "rhat_max", "ess_bulk_min", "ess_tail_min", "pareto_k", "weight_ess")
VERDICTS = ("identified", "weakly identified", "moved, hardly narrowed", BY_PRIOR)
OWNERS: Mapping[str, str] = {"species": "species", "insult": "diseases", "product": "products"}


def posterior(source: Source = "posterior") -> PosteriorResult:
    """What the shipped posterior is, or another one.

    Parameters
    ----------
    source : {'posterior'}, path or Posterior

    Returns
    -------
    PosteriorResult
        `.table`, `.data`, `.plot()`, `.save(folder)`, `.to_json()`.

    Raises
    ------
    PosteriorError
        If there is no such file, it is no posterior, or it belongs to another model.

    Examples
    --------
    >>> from mscrenal.scenarios import posterior
    >>> posterior("calibration-run/posterior.nc").table      # doctest: +SKIP
    """
    found = posterior_of(source)
    if found is None:
        raise ValueError("source = 'prior' is no posterior. Allowed: 'posterior', or the path of a file.")
    return posterior_result(found, _name_of(source))


def _name_of(source: Source) -> str:
    if isinstance(source, Posterior):
        return "given"
    return f"shipped ({SHIPPED.name})" if source == "posterior" else str(source)


def posterior_result(found: Posterior, file: str = "given") -> PosteriorResult:
    """A posterior as a result."""
    return PosteriorResult(**_headed("posterior", found, file), posterior=found, file=file)


def _headed(command: str, found: Posterior, file: str) -> dict[str, Any]:
    source = {k: v for k, v in found.provenance.items() if k not in ("verdicts", "diagnostics")}
    provenance: dict[str, Any] = {
        "package": "mscrenal",
        "version": found.provenance["version"],
        "origin": "posterior",
        "file": file,
        "posterior": source,
        "model_hash": found.provenance["model_hash"],
        "evidence_hash": found.provenance["evidence_hash"],
        "seed": found.provenance["seed"],
    }
    words = origin_words(provenance)
    return {
        "command": command,
        "title": f"{words[0].upper()}{words[1:]}",
        "question": "What do the data say of each parameter, and which of them say it?",
        "provenance": provenance,
    }


@cache
def module_of(name: str) -> str:
    """The module of the model that declares a sampled parameter, or 'species', 'diseases', 'products', 'drugs'.

    >>> module_of("product.UC.homing"), module_of("ras_on_leak")
    ('products', 'drugs')
    """
    head = name.split(".")[0]
    if "." in name and head in OWNERS:
        return OWNERS[head]
    return _homes()[name]


@cache
def _homes() -> Mapping[str, str]:
    from mscrenal.model.describe import parameter_table

    table = parameter_table()
    homes = ("drugs" if home.startswith("drug: ") else home for home in table["module"])
    return dict(zip(table["name"], homes, strict=True))


@dataclass(frozen=True, kw_only=True, eq=False)
class PosteriorResult(Result):
    """A posterior. Made by `mscrenal.scenarios.posterior`.

    Attributes
    ----------
    posterior : Posterior
    file : str
        Where it was read from, in words.
    """

    posterior: Posterior
    file: str

    @property
    def origin(self) -> str:
        """Always 'posterior'."""
        return "posterior"

    @property
    def draft(self) -> bool:
        """Whether it is a normal approximation, not a sample."""
        return bool(self.posterior.provenance.get("draft", False))

    @property
    def diagnostics(self) -> dict[str, Any]:
        """divergences, rhat_max, ess_bulk_min, ess_tail_min, and of the engine's weights pareto_k and weight_ess; a
        draft has None.
        """
        found = self.posterior.provenance["diagnostics"]
        return {name: found.get(name) for name in DIAGNOSTICS}

    @property
    def band_note(self) -> str:
        """What the numbers are, for captions."""
        return (
            f"{len(self.posterior):,} draws; 90 % intervals of prior and posterior; {self.sampling}; contraction: 1 less "
            "the posterior SD over the prior's, on the scale on which the prior is normal"
        )

    @property
    def sampling(self) -> str:
        """How the sample was taken, and how well."""
        found = self.diagnostics
        if self.draft:
            return "a draft: a normal approximation around the mode"
        weights = (
            f", Pareto k of the weights {found['pareto_k']:.2f}" if found["pareto_k"] is not None else ""
        )
        return (
            f"{found['divergences']} divergences, largest R-hat {found['rhat_max']:.3f}, smallest effective sample sizes "
            f"{found['ess_bulk_min']:.0f} (bulk) and {found['ess_tail_min']:.0f} (tail){weights}"
        )

    @property
    def extrapolated(self) -> Sequence[str]:
        """What the numbers do not rest on."""
        alone = self.by_prior_alone
        out = [
            f"{alone['n']} of {len(sampled_parameters())} uncertain parameters keep their prior: {len(alone['not_sampled'])} "
            f"that no row can move were not sampled, {len(alone['sampled_not_moved'])} were and did not move."
        ]
        if self.draft:
            out.insert(0, "This is a draft: intervals are those of a normal approximation around the mode.")
        animals = [p for p, b in backing(self.posterior).items() if not b.people]
        if animals:
            out.append(f"Fitted to studies in animals only: {', '.join(animals)}.")
        return out

    @cached_property
    def records(self) -> tuple[dict[str, Any], ...]:
        """`parameters[]` of the interface, in the order of the model's modules."""
        known, z = sampled_parameters(), self.posterior.flat("z")
        said = self.posterior.provenance.get("verdicts", {})
        out = []
        for k, name in enumerate(self.posterior.parameters):
            declared, column = known[name], z[:, k]
            low, median, high = np.quantile(column, QUANTILES)
            verdict = said.get(name, {})
            out.append(
                {
                    "name": name,
                    "label": _label(name),
                    "module": module_of(name),
                    "unit": declared.unit,
                    "prior": _three(declared.at(0.0), declared.at(-LIMIT), declared.at(LIMIT)),
                    "posterior": _three(declared.at(median), declared.at(low), declared.at(high)),
                    "prior_sd": _three(median, low, high),
                    "contraction": float(verdict.get("contraction", 1.0 - column.std())),
                    "verdict": str(verdict.get("verdict", "not judged")),
                    "sources": list(verdict.get("sources", ())),
                }
            )
        order = list(dict.fromkeys([*_homes().values(), *OWNERS.values()]))
        return tuple(
            sorted(out, key=lambda r: order.index(r["module"]) if r["module"] in order else len(order))
        )

    @cached_property
    def hyper_records(self) -> tuple[dict[str, Any], ...]:
        """`hyper[]`: the parameters of the probability model; without their priors where PyMC is not installed."""
        priors, out = _hyper_priors(), []
        for name in self.posterior.hyper_names:
            low, median, high = np.quantile(self.posterior.hyper(name), QUANTILES)
            record: dict[str, Any] = {
                "name": name,
                "label": name,
                "unit": "1",
                "prior": None,
                "posterior": _three(median, low, high),
            }
            if name in priors:
                centre, sigma, meaning = priors[name]
                z = np.log(self.posterior.hyper(name) / centre) / sigma
                low, median, high = np.quantile(z, QUANTILES)
                record |= {
                    "label": meaning,
                    "prior": _three(centre, centre * np.exp(-LIMIT * sigma), centre * np.exp(LIMIT * sigma)),
                    "prior_sd": _three(median, low, high),
                    "contraction": float(1.0 - z.std()),
                }
            out.append(record)
        return tuple(out)

    @cached_property
    def by_prior_alone(self) -> dict[str, Any]:
        """Parameters that keep their prior: not sampled, or sampled and not moved."""
        calibrated = set(self.posterior.parameters)
        untouched = [n for n in sampled_parameters() if n not in calibrated]
        still = [r["name"] for r in self.records if r["verdict"] == BY_PRIOR]
        return {"n": len(untouched) + len(still), "not_sampled": untouched, "sampled_not_moved": still}

    @property
    def table(self) -> pd.DataFrame:
        """One row per calibrated parameter."""
        return pd.DataFrame([_flat(r) | {"sources": ", ".join(r["sources"])} for r in self.records])

    @property
    def tables(self) -> dict[str, pd.DataFrame]:
        """Parameters, hyper-parameters, and what keeps its prior."""
        alone = self.by_prior_alone
        kept = [(n, "not sampled") for n in alone["not_sampled"]] + [
            (n, "sampled, not moved") for n in alone["sampled_not_moved"]
        ]
        return {
            "parameters": self.table,
            "hyper_parameters": pd.DataFrame([_flat(r) for r in self.hyper_records]),
            "by_prior_alone": pd.DataFrame(kept, columns=["name", "why"]),
        }

    @property
    def data(self) -> xr.Dataset:
        """The draws, as the file holds them."""
        return self.posterior.data

    def plot(self) -> dict[str, Figure]:
        """Prior against posterior: figures posterior (of the model) and hyper_parameters (of the probability model)."""
        from mscrenal.scenarios.posterior_figure import intervals

        return intervals(self)

    def to_json(self) -> dict[str, Any]:
        """studies, rows, diagnostics, `parameters[]`, `hyper[]`, by_prior_alone, hashes, draft."""
        given = self.posterior.provenance
        document = self._document() | {
            "command": self.command,
            "file": self.file,
            "draft": self.draft,
            "studies": given.get("studies"),
            "rows": given.get("rows", self.posterior.data.sizes["row"]),
            "draws": len(self.posterior),
            "sampler": given["sampler"],
            "seed": given["seed"],
            "created": given["created"],
            "version": given["version"],
            **self.diagnostics,
            "parameters": list(self.records),
            "hyper": list(self.hyper_records),
            "by_prior_alone": self.by_prior_alone,
            "treated_studies": {p: b.record for p, b in backing(self.posterior).items()},
            "hashes": {
                "model": given["model_hash"],
                "evidence": given["evidence_hash"],
                "maps": given.get("maps_hash"),
            },
        }
        cleaned: dict[str, Any] = plain(document)
        return cleaned


@dataclass(frozen=True, kw_only=True, eq=False)
class CalibrateResult(PosteriorResult):
    """A calibration that is done. Made by `mscrenal.scenarios.calibrate`.

    Attributes
    ----------
    minutes : float
        Of this run, what was computed before not counted.
    meets_the_bar : bool
        R-hat below 1.01, effective sample sizes above 400, no divergence; a draft does not.
    """

    minutes: float
    meets_the_bar: bool

    @property
    def notes(self) -> tuple[str, ...]:
        """What a reader must know before using the posterior."""
        if self.draft:
            return ("A draft, for a quick look: run without --draft before you draw conclusions.",)
        if not self.meets_the_bar:
            return (
                "The sample does not meet the bar (R-hat < 1.01, effective sample sizes > 400, no divergence): raise "
                "--tune and --draws.",
            )
        return ()

    def to_json(self) -> dict[str, Any]:
        """As of `PosteriorResult`, with minutes and meets_the_bar."""
        return super().to_json() | {"minutes": float(self.minutes), "meets_the_bar": bool(self.meets_the_bar)}


def _label(name: str) -> str:
    owner = f"{name.split('.')[1]}: " if name.startswith("species.") else ""
    return owner + label_of([name])


def _three(median: float, low: float, high: float) -> dict[str, float]:
    return {"median": float(median), "low": float(low), "high": float(high)}


def _flat(record: Mapping[str, Any]) -> dict[str, Any]:
    out: dict[str, Any] = {}
    for key, value in record.items():
        if isinstance(value, Mapping):
            out |= {f"{key}_{end}": number for end, number in value.items()}
        elif value is not None:
            out[key] = value
    return out


def _hyper_priors() -> dict[str, tuple[float, float, str]]:
    """Median, SD of the logarithm and meaning of each hyper-parameter; empty without PyMC."""
    try:
        from mscrenal.calibration.probability import HYPER
    except ImportError:
        return {}
    return {name: (h.median, h.sigma, h.meaning) for name, h in HYPER.items()}
