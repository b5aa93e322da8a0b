"""What virtual trials hand back: assurance, power and type I error with their Monte-Carlo errors, by size and by look."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray
from scipy import stats

from mscrenal.scenarios.endpoints import DAYS_PER_YEAR
from mscrenal.scenarios.results import Result, ResultError, _origin, describe_arm, plain
from mscrenal.scenarios.scenario import Scenario
from mscrenal.scenarios.trial_analysis import boundaries
from mscrenal.scenarios.trial_spec import ANALYSES, TrialEndpoint, TrialSpec, trial_endpoint

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["MOST_LISTED", "Comparison", "Share", "TrialResult", "decisions"]

MOST_LISTED = 300  # failures told in full; the others are counted
DETECTABLE_POWER = 0.8


@dataclass(frozen=True)
class Share:
    """A share of trials with its Monte-Carlo standard error."""

    value: float
    error: float
    n: int

    @classmethod
    def of(cls, hits: NDArray[np.bool_]) -> Share:
        """Of trials.

        >>> Share.of(np.array([True, False, False, False])).value
        0.25
        """
        n = len(hits)
        value = float(np.mean(hits)) if n else math.nan
        return cls(value, math.sqrt(value * (1 - value) / n) if n else math.nan, n)


def decisions(
    rows: pd.DataFrame, endpoint: TrialEndpoint, spec: TrialSpec, *, null: bool, either: bool = False
) -> NDArray[np.bool_]:
    """Whether each trial of one comparison and series rejects, in the order of the trials.

    Parameters
    ----------
    rows : DataFrame
        One row for each trial and part (looks and the end).
    null : bool
        With the effect taken out.
    either : bool
        In either direction, as the type I error counts; otherwise in that of a benefit.
    """
    first = _rejected_at(rows, endpoint, spec, null=null, either=either)
    return np.asarray(first >= 0)


def _rejected_at(
    rows: pd.DataFrame, endpoint: TrialEndpoint, spec: TrialSpec, *, null: bool, either: bool
) -> NDArray[np.int64]:
    """Index of the look at which each trial first rejects, -1 for none."""
    effect, p = ("null_effect", "null_p") if null else ("effect", "p")
    parts = sorted(rows["part"].unique())
    looks = [f for f in parts if f in spec.looks or f == parts[-1]]
    limits = boundaries(tuple(looks), spec.alpha) if len(looks) > 1 else None
    trials = np.sort(rows["trial"].unique())
    found = np.full(len(trials), -1, dtype=np.int64)
    sign = 1.0 if endpoint.better == "higher" else -1.0
    for k, part in enumerate(looks):
        at = rows[rows["part"] == part].sort_values("trial")
        if limits is None:
            beyond = at[p].to_numpy() <= spec.alpha
        else:
            # A p value on the scale of the normal deviates that the boundaries are told in.
            beyond = at[p].to_numpy() <= 2 * stats.norm.sf(limits[k])
        if not either:
            beyond &= sign * at[effect].to_numpy() > 0
        found[(found < 0) & beyond] = k
    return found


@dataclass(frozen=True)
class Comparison:
    """One arm against the reference.

    Attributes
    ----------
    arm : str
    n_arm, n_reference : int
    assurance : Share
        Significant in the direction of a benefit, each trial in a world of its own.
    power : Share
        The same in the one world of the medians.
    type1 : Share
        Significant in either direction, the effect taken out.
    in_favour : Share
        Worlds in which the true effect has the direction of a benefit: what the assurance of ever larger trials tends to.
    truth, estimate : tuple of float (5 %, 50 %, 95 %)
        Of the true effect over worlds, and of its estimate over trials, on the printed scale.
    truth_fixed : float
        True effect at the medians.
    detectable : float
        True effect that a trial of this size shows with 80 % power, from its median standard error.
    exaggeration : float
        Mean estimate of the significant trials over their mean true effect, on the scale of the test; NaN with fewer
        than ten.
    analysed : float
        Mean share of patients that count in the analysis.
    stops : tuple of Share
        Trials that stop for efficacy at each interim look; empty without looks.
    expected_n : float
        Expected number of patients of both arms.
    """

    arm: str
    n_arm: int
    n_reference: int
    assurance: Share
    power: Share
    type1: Share
    in_favour: Share
    truth: tuple[float, float, float]
    estimate: tuple[float, float, float]
    truth_fixed: float
    detectable: float
    exaggeration: float
    analysed: float
    stops: tuple[Share, ...]
    expected_n: float


@dataclass(frozen=True, kw_only=True, eq=False)
class TrialResult(Result):
    """Virtual trials of a design. Made by `mscrenal.scenarios.trial`.

    Attributes
    ----------
    design : TrialSpec
        As asked for; `sized` is that with the target assurance, if one was asked for.
    target : float or None
    rows : DataFrame
        A row for each trial, part and comparison: series, trial, draw, arm, part, n_arm, n_reference, n_analysed, effect,
        se, p, null_effect, null_p, truth; effects on the scale of the test.
    statuses : dict of status to how many simulations ended so
    listed : tuple of dict
        The first `MOST_LISTED` failures in full.
    """

    scenario: Scenario
    design: TrialSpec
    sized: TrialSpec | None
    target: float | None
    rows: pd.DataFrame
    statuses: Mapping[str, int]
    listed: tuple[Mapping[str, Any], ...]

    @property
    def origin(self) -> str:
        """Whether the design prior is the priors or a posterior."""
        return _origin(self.provenance)

    @property
    def endpoint(self) -> TrialEndpoint:
        """What is tested."""
        return trial_endpoint(self.design.endpoint)

    @property
    def spec(self) -> TrialSpec:
        """The design that the numbers are of: the sized one, if a target was given."""
        return self.sized or self.design

    @property
    def reference(self) -> str:
        """Name of the reference arm."""
        return self.scenario.reference

    @property
    def failures(self) -> Sequence[Mapping[str, Any]]:
        """Failed patients, at most `MOST_LISTED`; `statuses` counts them all."""
        return self.listed

    @property
    def n_failed(self) -> int:
        """How many simulations failed."""
        return int(sum(self.statuses.values()))

    def printed(self, effect: float) -> float:
        """An effect of the test's scale as it is printed: ratios are logarithms there."""
        return self.endpoint.printed(effect)

    @property
    def none(self) -> float:
        """No effect, as printed."""
        return self.printed(0.0)

    # ------------------------------------------------------------------ numbers

    def _main(self) -> tuple[str, str]:
        """Names of the series behind assurance and power: those of the design, or of the size that was found."""
        if self.sized is None:
            return "design", "fixed"
        for name in (str(n) for n in self.rows["series"].unique()):
            if (
                name.startswith("target")
                and self._sizes(self.rows[self.rows["series"] == name]) == self.sized.sizes
            ):
                return name, "fixed target"
        raise ResultError(f"no trials of the size {self.sized.sizes} are among the rows.")

    def _sizes(self, rows: pd.DataFrame) -> tuple[int, ...]:
        whole = rows[rows["part"] == rows["part"].max()]
        sizes = {str(a): int(n) for a, n in whole.groupby("arm")["n_arm"].first().items()}
        sizes[self.reference] = int(whole["n_reference"].iloc[0])
        return tuple(sizes[a] for a in self.design.arms)

    @cached_property
    def comparisons(self) -> tuple[Comparison, ...]:
        """Each arm against the reference; the first is what `--target-assurance` is about."""
        main, fixed = self._main()
        return tuple(self._comparison(arm, main, fixed) for arm in self.design.arms if arm != self.reference)

    def _of(self, series: str, arm: str) -> pd.DataFrame:
        return self.rows[(self.rows["series"] == series) & (self.rows["arm"] == arm)]

    def _comparison(self, arm: str, main: str, fixed: str) -> Comparison:
        rows, at_medians = self._of(main, arm), self._of(fixed, arm)
        whole = rows[rows["part"] == rows["part"].max()].sort_values("trial")
        hits = decisions(rows, self.endpoint, self.design, null=False)
        truth = whole["truth"].to_numpy()
        sign = 1.0 if self.endpoint.better == "higher" else -1.0
        known = np.isfinite(truth)
        chosen = hits & np.isfinite(whole["effect"].to_numpy()) & known
        mean_truth = float(truth[chosen].mean()) if chosen.any() else math.nan
        looked = _rejected_at(rows, self.endpoint, self.design, null=False, either=False)
        n_looks = len(self.design.looks)
        n_arm, n_reference = int(whole["n_arm"].iloc[0]), int(whole["n_reference"].iloc[0])
        fractions = [*self.design.looks, 1.0]
        used = np.where(looked >= 0, np.array(fractions)[np.clip(looked, 0, n_looks)], 1.0)
        se = float(np.nanmedian(whole["se"]))
        level = stats.norm.isf(self.design.alpha / 2) + stats.norm.ppf(DETECTABLE_POWER)
        fixed_whole = at_medians[at_medians["part"] == at_medians["part"].max()]
        return Comparison(
            arm,
            n_arm,
            n_reference,
            Share.of(hits),
            Share.of(decisions(at_medians, self.endpoint, self.design, null=False)),
            Share.of(decisions(rows, self.endpoint, self.design, null=True, either=True)),
            Share.of(sign * truth[known] > 0),
            self._quantiles(truth),
            self._quantiles(whole["effect"].to_numpy()),
            self.printed(float(np.nanmean(fixed_whole["truth"]))) if len(fixed_whole) else math.nan,
            self.printed(sign * level * se),
            float(whole["effect"].to_numpy()[chosen].mean() / mean_truth)
            if chosen.sum() >= 10 and mean_truth
            else math.nan,
            float(np.mean(whole["n_analysed"]) / (n_arm + n_reference)),
            tuple(Share.of(looked == k) for k in range(n_looks)),
            float(np.mean(used) * (n_arm + n_reference)),
        )

    def _quantiles(self, values: NDArray[np.float64]) -> tuple[float, float, float]:
        known = values[np.isfinite(values)]
        if not len(known):
            return math.nan, math.nan, math.nan
        low, middle, high = (self.printed(float(q)) for q in np.quantile(known, (0.05, 0.5, 0.95)))
        return low, middle, high

    @cached_property
    def power_curve(self) -> pd.DataFrame:
        """Assurance and type I error by size: arm, n_arm, n_reference, assurance, mc_error, type1_error, type1_mc_error, trials.

        Trials of one curve share patients: the smaller are the first part of the larger, so that neighbours go together.
        """
        rows = []
        simple = self.design.replace(looks=())
        for series in self.rows["series"].unique():
            if str(series).startswith("fixed"):
                continue
            for arm in self.design.arms:
                of_arm = self._of(str(series), arm)
                parts = of_arm["part"].unique() if series == "curve" else of_arm["part"].unique()[-1:]
                for part in parts:
                    chosen = of_arm[of_arm["part"] == part]
                    if chosen.empty:
                        continue
                    share = Share.of(decisions(chosen, self.endpoint, simple, null=False))
                    false = Share.of(decisions(chosen, self.endpoint, simple, null=True, either=True))
                    rows.append(
                        {
                            "arm": arm,
                            "series": str(series),
                            "n_arm": int(chosen["n_arm"].iloc[0]),
                            "n_reference": int(chosen["n_reference"].iloc[0]),
                            "assurance": share.value,
                            "mc_error": share.error,
                            "type1_error": false.value,
                            "type1_mc_error": false.error,
                            "trials": share.n,
                        }
                    )
        return pd.DataFrame(rows).sort_values(["arm", "n_arm", "series"], ignore_index=True)

    @property
    def table(self) -> pd.DataFrame:
        """One row per comparison."""
        out = []
        for c in self.comparisons:
            out.append(
                {
                    "arm": c.arm,
                    "reference": self.reference,
                    "n_arm": c.n_arm,
                    "n_reference": c.n_reference,
                    "endpoint": self.endpoint.name,
                    "analysis": self.design.analysis,
                    "unit": self.endpoint.unit,
                    "assurance": c.assurance.value,
                    "assurance_mc_error": c.assurance.error,
                    "power_at_medians": c.power.value,
                    "power_mc_error": c.power.error,
                    "type1_error": c.type1.value,
                    "type1_mc_error": c.type1.error,
                    "share_of_worlds_in_favour": c.in_favour.value,
                    "true_effect_q05": c.truth[0],
                    "true_effect_q50": c.truth[1],
                    "true_effect_q95": c.truth[2],
                    "estimate_q05": c.estimate[0],
                    "estimate_q50": c.estimate[1],
                    "estimate_q95": c.estimate[2],
                    "detectable_effect": c.detectable,
                    "exaggeration_if_significant": c.exaggeration,
                    "share_analysed": c.analysed,
                    "expected_n": c.expected_n,
                    "trials": c.assurance.n,
                }
            )
        return pd.DataFrame(out)

    @property
    def tables(self) -> dict[str, pd.DataFrame]:
        """Comparisons, the curve, every trial, and the failures that are listed."""
        made = {"trial": self.table, "power_curve": self.power_curve, "trials": self.rows}
        return made | ({"failures": pd.DataFrame(list(self.listed))} if self.listed else {})

    @property
    def data(self) -> xr.Dataset:
        """`effect`, `se`, `p`, `null_p`, `truth` (arm, trial) of the design's trials at their full size."""
        main, _ = self._main()
        rows = self.rows[self.rows["series"] == main]
        rows = rows[rows["part"] == rows["part"].max()]
        names = [a for a in self.design.arms if a != self.reference]
        trials = np.sort(rows["trial"].unique())
        wide = {
            column: (
                ("arm", "trial"),
                rows.pivot(index="arm", columns="trial", values=column).loc[names].to_numpy(),
            )
            for column in ("effect", "se", "p", "null_effect", "null_p", "truth")
        }
        data = xr.Dataset(wide, coords={"arm": names, "trial": trials})
        data["effect"].attrs["unit"] = (
            f"log of the {self.endpoint.unit}" if self.endpoint.as_ratio else self.endpoint.unit
        )
        return data

    # ------------------------------------------------------------------ words

    @property
    def band_note(self) -> str:
        """What the numbers are, for captions."""
        main, _ = self._main()
        n = int(self.rows[self.rows["series"] == main]["trial"].nunique())
        return f"{n:,} virtual trials, each in a world of its own drawn from the {self.origin}; bars: 95 % Monte-Carlo intervals"

    @property
    def summary(self) -> tuple[str, ...]:
        """What the trial can and cannot show, in sentences for a protocol."""
        out = []
        e, d = self.endpoint, self.design
        span = self.scenario.horizon_days / 7
        for c in self.comparisons:
            low, middle, high = c.truth
            unit = "" if e.unit in ("ratio", "hazard ratio") else f" {e.unit}"
            name = f"{e.label} ({e.unit})" if not unit else e.label
            out.append(
                f"{c.arm} against {self.reference}, {c.n_arm} + {c.n_reference} patients, {span:.0f} weeks, {e.label} by {d.analysis} at "
                f"two-sided {d.alpha:.0%}: the posterior's worlds hold a true effect of {_told(middle)}{unit} at the median, 90 % of them "
                f"between {_told(low)} and {_told(high)}. A trial of this size comes out significant in favour of the treatment with probability "
                f"{c.assurance.value:.0%} (± {c.assurance.error:.1%}), and by chance alone, in either direction, with {c.type1.value:.1%} "
                f"(± {c.type1.error:.1%})."
                if self.origin == "posterior"
                else f"{c.arm} against {self.reference}, {c.n_arm} + {c.n_reference} patients, {span:.0f} weeks, {e.label} by {d.analysis} at "
                f"two-sided {d.alpha:.0%}: under the priors alone the true effect is {_told(middle)}{unit} at the median, 90 % between {_told(low)} "
                f"and {_told(high)}, and a trial of this size comes out significant in favour with probability {c.assurance.value:.0%} "
                f"(± {c.assurance.error:.1%}); by chance alone, in either direction, with {c.type1.value:.1%} (± {c.type1.error:.1%})."
            )
            out.append(
                f"It can show, with 80 % power, a true effect of {_told(c.detectable)}{unit} on {name}; "
                + (
                    "smaller ones it will mostly miss, and a result without significance says little against them."
                    if c.assurance.value < 0.5
                    else "that is within what the worlds hold."
                )
            )
            if math.isfinite(c.exaggeration) and c.exaggeration > 1.2:
                out.append(
                    f"Among the trials that are significant, the estimate is {c.exaggeration:.1f} times the true effect on average: a small "
                    "trial is significant when chance helps."
                )
        return tuple(out)

    @property
    def assumptions(self) -> Sequence[str]:
        """How the numbers were made, in sentences."""
        d, e = self.design, self.endpoint
        assert d.death is not None
        ratio = ":".join(str(r) for r in d.ratio)
        looks = (
            [
                f"Interim analyses at {', '.join(f'{f:.0%}' for f in d.looks)} of the patients, each followed to the end; error spent as "
                "Lan and DeMets have it for O'Brien and Fleming. Stopping is for efficacy only; time is not saved by an analysis "
                "that waits for its patients' last visits."
            ]
            if d.looks
            else []
        )
        several = len(d.arms) > 2
        return [
            *super().assumptions,
            f"Estimand: {e.estimand}.",
            f"Analysis: {d.analysis}: {ANALYSES[d.analysis]}.",
            f"Two-sided level {d.alpha:g}"
            + (" for each comparison with the reference, not adjusted for their number." if several else "."),
            f"Randomised {ratio} in blocks of {d.block_length}. Baseline is the reading of day 0.",
            f"Missing: {d.missed:.0%} of visits by chance; {_rate(d.dropout)} leave; {_rate(d.death)} die, whatever the arm.",
            "A reading's error holds what varies from day to day in a person as well as the assay; independent from visit to visit.",
            f"Assurance: share of significant trials, each in a world drawn from the {self.origin} (the design prior). Power: the same in "
            "the one world of the medians. Type I error: the same trials with every treated patient as he would be in the reference "
            "arm, so that chance alone is left; significant in either direction. Errors are binomial, of the number of trials.",
            "The true effect of a world is the mean over the treated patients of each one's difference from himself untreated, without "
            "measurement error"
            + (
                "; for this endpoint, which readings define, with it."
                if e.kind in ("event", "responder")
                else "."
            ),
            *looks,
            *_population_words(self.design, self.scenario),
        ]

    # ------------------------------------------------------------------ figures and JSON

    def plot(self) -> dict[str, Figure]:
        """Figures assurance and effects."""
        from mscrenal.scenarios import trial_figures

        return trial_figures.figures(self)

    def to_json(self) -> dict[str, Any]:
        """`n_per_arm, endpoint, estimand, assurance, mc_error, power_curve[], type1_error` of the interface, and the rest."""
        first = self.comparisons[0]
        weight = float(self.scenario.weight_kg or 1.0)
        document = self._document() | {
            "command": self.command,
            "scenario": self.scenario.name,
            "title": self.title,
            "question": self.question,
            "source": self.scenario.source,
            "origin": self.origin,
            "reference": self.reference,
            "n_per_arm": first.n_arm,
            "arms": [
                describe_arm(self.scenario.arm(a), weight) | {"n": n}
                for a, n in zip(self.spec.arms, self.spec.sizes, strict=True)
            ],
            "endpoint": self.endpoint.name,
            "unit": self.endpoint.unit,
            "better": self.endpoint.better,
            "estimand": self.endpoint.estimand,
            "analysis": self.design.analysis,
            "alpha": self.design.alpha,
            "looks": list(self.design.looks),
            "horizon_days": self.scenario.horizon_days,
            "visits": list(self.scenario.visits),
            "target_assurance": self.target,
            "assurance": first.assurance.value,
            "mc_error": first.assurance.error,
            "power": first.power.value,
            "power_mc_error": first.power.error,
            "type1_error": first.type1.value,
            "type1_mc_error": first.type1.error,
            "comparisons": [
                {
                    "arm": c.arm,
                    "n_arm": c.n_arm,
                    "n_reference": c.n_reference,
                    "assurance": c.assurance.value,
                    "mc_error": c.assurance.error,
                    "power": c.power.value,
                    "power_mc_error": c.power.error,
                    "type1_error": c.type1.value,
                    "type1_mc_error": c.type1.error,
                    "share_of_worlds_in_favour": c.in_favour.value,
                    "true_effect": {"median": c.truth[1], "ci90": [c.truth[0], c.truth[2]]},
                    "true_effect_at_medians": c.truth_fixed,
                    "estimate": {"median": c.estimate[1], "range90": [c.estimate[0], c.estimate[2]]},
                    "detectable_effect": c.detectable,
                    "exaggeration_if_significant": c.exaggeration,
                    "share_analysed": c.analysed,
                    "stops": [
                        {"fraction": f, "share": s.value}
                        for f, s in zip(self.design.looks, c.stops, strict=True)
                    ],
                    "expected_n": c.expected_n,
                }
                for c in self.comparisons
            ],
            "power_curve": self.power_curve.to_dict("records"),
            "summary": list(self.summary),
            "assumptions": list(self.assumptions),
            "n_failed": self.n_failed,
            "trials": first.assurance.n,
        }
        cleaned: dict[str, Any] = plain(document)
        return cleaned


def _told(effect: float) -> str:
    """Two digits beyond the point or two that count, whichever are more.

    >>> _told(0.9968), _told(0.0157), _told(7.476)
    ('1.00', '0.016', '7.48')
    """
    return f"{effect:.2f}" if abs(effect) >= 0.1 or effect == 0 else f"{effect:.2g}"


def _rate(rate: Any) -> str:
    if rate.share == 0:
        return "none"
    return f"{rate.share:.3g} of patients by {rate.by_days / DAYS_PER_YEAR:.2g} years"


def _population_words(spec: TrialSpec, scenario: Scenario) -> list[str]:
    population = spec.population
    if population is None:
        return []
    said = []
    for name, item in population.covariates.items():
        if item.constant:
            said.append(f"{name} {item.centre:g}")
            continue
        spread = f"SD {item.spread:g}" if item.kind == "normal" else f"geometric SD {item.spread:g}"
        said.append(f"{name} {item.centre:g} ({spread}, {item.low:g} to {item.high:g})")
    whence = (
        "the scenario's population"
        if scenario.population is not None
        or (scenario.trial is not None and scenario.trial.population is not None)
        else "around the scenario's patient, with spreads of the disease (trial_populations.toml)"
    )
    return [f"Patients: {whence}: {'; '.join(said)}; {population.male_share:.0%} men."]
