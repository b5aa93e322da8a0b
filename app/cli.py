"""The command ``mscrenal``: each command a thin face of a function of `mscrenal.scenarios`.

Nothing heavy is imported before a command runs, so that ``--help`` answers at once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.text import Text

from mscrenal.app.console import DISCLAIMER, clear_errors, error_console, progress_bar, show, work_bar

__all__ = ["main"]

DEFAULT_SCENARIO = "uc-dn-weekly"

main = typer.Typer(
    name="mscrenal",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help=(
        "Mesenchymal stromal cell therapy in kidney disease, in silico: which cells, what dose, how often, "
        f"with uncertainty.\n\n[bold]{DISCLAIMER}[/bold]\n\n"
        "Exit codes: 0 done; 2 bad input; 3 done, but some subjects failed and are listed; 130 interrupted."
    ),
    epilog="Start with:  [bold]mscrenal compare[/bold]",
)

# --------------------------------------------------------------------------- options

Json = Annotated[
    bool,
    typer.Option(
        "--json", help="One JSON document on standard output, nothing else there.", show_default=False
    ),
]
Out = Annotated[
    Path | None,
    typer.Option(
        "--out",
        metavar="FOLDER",
        help="Write tables, figures, result.json, provenance.json and report.html into a new folder.",
        show_default=False,
    ),
]
Seed = Annotated[int, typer.Option(min=0, help="The same seed gives the same numbers.")]
Draws = Annotated[
    int, typer.Option(min=1, max=100_000, help="Draws of the parameters; the bands are over draws.")
]
Workers = Annotated[
    int | None,
    typer.Option(
        min=1, max=1024, help="Threads on this machine; by default one per processor.", show_default=False
    ),
]
Cluster = Annotated[
    str | None,
    typer.Option(
        "--cluster",
        metavar="ADDRESS",
        help="Instead of threads, a dask cluster: tcp://HOST:PORT of its scheduler, or its scheduler file.",
        show_default=False,
    ),
]
PosteriorFile = Annotated[
    Path | None,
    typer.Option(
        "--posterior",
        metavar="FILE",
        help="Draw the parameters from this posterior, not from the one that ships.",
        show_default=False,
    ),
]
Prior = Annotated[
    bool,
    typer.Option(
        "--prior",
        help="Draw the parameters from their priors, as if no study were fitted.",
        show_default=False,
    ),
]
Patients = Annotated[
    int | None,
    typer.Option(
        min=1, max=1_000_000, help="Size of the population (scenarios with one, or IIV).", show_default=False
    ),
]
Endpoints = Annotated[
    list[str] | None,
    typer.Option("--endpoint", metavar="NAME", help="An endpoint, instead of the scenario's; repeat it."),
]
Horizon = Annotated[
    str | None,
    typer.Option(metavar="TIME", help="When endpoints are read: 48w, 90d, 18mo, 2y.", show_default=False),
]
PATIENT = "The patient, instead of the scenario's"
Egfr = Annotated[float | None, typer.Option(help="mL/min/1.73 m², 5 to 150.", rich_help_panel=PATIENT)]
Uacr = Annotated[float | None, typer.Option(help="mg/g.", rich_help_panel=PATIENT)]
Hba1c = Annotated[float | None, typer.Option(help="%.", rich_help_panel=PATIENT)]
Age = Annotated[float | None, typer.Option(help="Years.", rich_help_panel=PATIENT)]
Sex = Annotated[str | None, typer.Option(metavar="female|male", help="Sex.", rich_help_panel=PATIENT)]
Weight = Annotated[float | None, typer.Option(help="kg.", rich_help_panel=PATIENT)]
Drugs = Annotated[
    list[str] | None,
    typer.Option(
        "--drug",
        metavar="NAME",
        help="Background drugs; repeat it; 'none' for none.",
        rich_help_panel=PATIENT,
    ),
]
ScenarioName = Annotated[
    str,
    typer.Argument(
        metavar="SCENARIO", help="A name of `mscrenal scenarios`, a .toml file or an event table."
    ),
]


class InputError(ValueError):
    """Options that do not go with each other or with the scenario."""


@dataclass(frozen=True)
class Changes:
    """What the options change in a scenario."""

    horizon: str | None = None
    endpoints: tuple[str, ...] = ()
    patient: Mapping[str, Any] = field(default_factory=dict)

    def apply(self, scenario: Any) -> Any:
        """A changed copy of the scenario, checked as if it had been written so."""
        if self.endpoints:
            endpoint = import_module("mscrenal.scenarios.endpoints").endpoint
            chosen = tuple(dict.fromkeys(endpoint(name).name for name in self.endpoints))
            scenario = scenario.replace(endpoints=chosen)
        if self.patient:
            if scenario.patient is None:
                given = ", ".join(self.patient)
                raise InputError(
                    f"Scenario {scenario.name!r} describes a population, but {given} would change one. "
                    f"Edit [population] in a copy: mscrenal scenarios {scenario.name} > mine.toml"
                )
            scenario = scenario.replace(patient=scenario.patient.replace(**self.patient))
        if self.horizon is not None:
            text = import_module("mscrenal.model.text")
            days = text.parse_duration(self.horizon, what="--horizon")
            # The visits up to the new horizon, which is one itself; a longer one takes the default visits.
            kept = tuple(v for v in scenario.visits if v < days)
            visits = (*kept, days) if days <= scenario.horizon_days else ()
            scenario = scenario.replace(horizon_days=days, visits=visits)
        return scenario


def _patient(**given: Any) -> dict[str, Any]:
    """The covariates that were given, by the names of the scenario's patient."""
    changed = {name: value for name, value in given.items() if value is not None}
    drugs = changed.pop("drugs", None)
    if drugs:
        changed["drugs"] = () if [name.lower() for name in drugs] == ["none"] else tuple(drugs)
    return changed


def _source(file: Path | None, prior: bool) -> Path | str:
    """Where parameters are drawn from."""
    if file is not None and prior:
        raise InputError(
            f"--posterior {file} and --prior were both given; choose one: the file's posterior, or no data at all."
        )
    return file or ("prior" if prior else "posterior")


# --------------------------------------------------------------------------- before and after a command


def _output(out: Path | None) -> Path | None:
    """Refuse an output folder that is taken before anything is computed."""
    if out is None:
        return None
    checked: Path = import_module("mscrenal.scenarios.results").check_output_folder(out)
    return checked


def _report() -> Callable[[Any], str]:
    """The writer of report.html, which tells how to get the result again."""
    again = import_module("mscrenal.app.command_line").command_line()
    return partial(import_module("mscrenal.app.report").render, command_line=again)


def _write(result: Any, out: Path) -> None:
    written = result.save(out, report=_report())
    error_console().print(Text(f"Written to {written}: open report.html first."), soft_wrap=True)


def _finish(result: Any, out: Path | None, as_json: bool) -> None:
    """Write, print, and leave with code 3 if subjects failed."""
    results = import_module("mscrenal.scenarios.results")
    if out is not None:
        _write(result, out)
    if as_json:
        typer.echo(results.to_json_text(result.to_json()))
    else:
        show(result)
    failures = list(getattr(result, "failures", ()))
    if failures:
        console = error_console()
        n_failed = getattr(result, "n_failed", len(failures))  # a large population lists only the first
        console.print(f"[bold]{n_failed:,} subjects failed[/bold] and are left out of the statistics:")
        for failure in failures[:5]:
            place = ", ".join(
                f"{key} {failure[key]}"
                for key in ("scenario", "arm", "stage", "draw", "patient")
                if key in failure
            )
            console.print(Text(f"  {place}: {failure['status']}: {failure['message']}"), soft_wrap=True)
        if n_failed > 5:
            listed = "all" if n_failed == len(failures) else f"the first {len(failures)}"
            console.print(f"  and {n_failed - 5:,} more, {listed} in --json and --out.")
        raise typer.Exit(3)


def _version(wanted: bool) -> None:
    if not wanted:
        return
    try:
        typer.echo(f"mscrenal {version('mscrenal')}")
    except PackageNotFoundError:
        typer.echo("mscrenal (not installed as a package)")
    raise typer.Exit()


@main.callback()
def _common(
    show_version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and leave.")
    ] = False,
) -> None: ...


# --------------------------------------------------------------------------- commands


@main.command(
    epilog="Example:  [bold]mscrenal compare uc-dn-weekly --egfr 35 --drug ras --draws 50 --out result[/bold]"
)
def compare(
    scenarios: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="SCENARIO",
            help="Names of `mscrenal scenarios`, .toml files or event tables.",
            show_default=DEFAULT_SCENARIO,
        ),
    ] = None,
    endpoint: Endpoints = None,
    horizon: Horizon = None,
    patients: Patients = None,
    draws: Draws = 100,
    seed: Seed = 1,
    posterior_file: PosteriorFile = None,
    prior: Prior = False,
    workers: Workers = None,
    cluster: Cluster = None,
    as_json: Json = False,
    out: Out = None,
    egfr: Egfr = None,
    uacr: Uacr = None,
    hba1c: Hba1c = None,
    age: Age = None,
    sex: Sex = None,
    weight: Weight = None,
    drug: Drugs = None,
) -> None:
    """The arms of a scenario side by side, with uncertainty."""
    with clear_errors():
        folder = _output(out)
        api, results = import_module("mscrenal.scenarios"), import_module("mscrenal.scenarios.results")
        covariates = _patient(
            egfr=egfr, uacr=uacr, hba1c=hba1c, age=age, sex=sex, weight_kg=weight, drugs=drug
        )
        changes = Changes(horizon, tuple(endpoint or ()), covariates)
        wanted = [changes.apply(api.load_scenario(name)) for name in scenarios or [DEFAULT_SCENARIO]]
        done: list[Any] = []
        try:
            for scenario in wanted:
                with progress_bar(scenario.name) as step:
                    done.append(
                        api.compare(
                            scenario,
                            draws=draws,
                            seed=seed,
                            source=_source(posterior_file, prior),
                            workers=workers,
                            cluster=cluster,
                            patients=patients,
                            progress=step,
                        )
                    )
        except KeyboardInterrupt:
            if done and folder is not None:
                _write(results.compare_series(done), folder)
            error_console().print(f"{len(done)} of {len(wanted)} scenarios were finished.")
            raise
        _finish(results.compare_series(done), folder, as_json)


@main.command(epilog="Example:  [bold]mscrenal scenarios uc-dn-weekly > mine.toml[/bold]")
def scenarios(
    name: Annotated[
        str | None,
        typer.Argument(metavar="NAME", help="Print this one as a TOML file to edit.", show_default=False),
    ] = None,
    as_json: Json = False,
    out: Out = None,
) -> None:
    """The gallery, with sources; with a NAME, one scenario as an editable file."""
    with clear_errors():
        folder = _output(out)
        api, results = import_module("mscrenal.scenarios"), import_module("mscrenal.scenarios.results")
        if name is not None and not as_json and folder is None:
            typer.echo(api.scenario_toml(name), nl=False)
            return
        if name is not None:
            api.scenario_toml(name)  # only names of the gallery, with the same message as above
        listed = api.gallery() if name is None else [api.load_scenario(name)]
        _finish(results.scenarios_result(listed, _plain_provenance()), folder, as_json)


@main.command(epilog="Example:  [bold]mscrenal simulate stz-rat-uc --draws 50 --json > rat.json[/bold]")
def simulate(
    scenario: ScenarioName,
    horizon: Horizon = None,
    patients: Patients = None,
    draws: Draws = 100,
    seed: Seed = 1,
    posterior_file: PosteriorFile = None,
    prior: Prior = False,
    workers: Workers = None,
    cluster: Cluster = None,
    as_json: Json = False,
    out: Out = None,
    egfr: Egfr = None,
    uacr: Uacr = None,
    hba1c: Hba1c = None,
    age: Age = None,
    sex: Sex = None,
    weight: Weight = None,
    drug: Drugs = None,
) -> None:
    """Trajectories with credible bands, for one patient or a population."""
    with clear_errors():
        folder = _output(out)
        api = import_module("mscrenal.scenarios")
        covariates = _patient(
            egfr=egfr, uacr=uacr, hba1c=hba1c, age=age, sex=sex, weight_kg=weight, drugs=drug
        )
        wanted = Changes(horizon, (), covariates).apply(api.load_scenario(scenario))
        with progress_bar(wanted.name) as step:
            result = api.simulate(
                wanted,
                draws=draws,
                seed=seed,
                source=_source(posterior_file, prior),
                workers=workers,
                cluster=cluster,
                patients=patients,
                progress=step,
            )
        _finish(result, folder, as_json)


@main.command(
    epilog="Example:  [bold]mscrenal population uc-dn-weekly --patients 20000 --endpoint egfr_change[/bold]"
)
def population(
    scenario: ScenarioName,
    endpoint: Endpoints = None,
    horizon: Horizon = None,
    patients: Annotated[
        int, typer.Option(min=1, max=10_000_000, help="Size of the virtual population.")
    ] = 10_000,
    draws: Annotated[
        int,
        typer.Option(
            min=1, max=100_000, help="Draws of the parameters, which patients share out among themselves."
        ),
    ] = 200,
    seed: Seed = 1,
    posterior_file: PosteriorFile = None,
    prior: Prior = False,
    workers: Workers = None,
    cluster: Cluster = None,
    as_json: Json = False,
    out: Out = None,
    egfr: Egfr = None,
    uacr: Uacr = None,
    hba1c: Hba1c = None,
    age: Age = None,
    sex: Sex = None,
    weight: Weight = None,
    drug: Drugs = None,
) -> None:
    """A large virtual population: each patient with a draw, through every arm, in little memory."""
    with clear_errors():
        folder = _output(out)
        api = import_module("mscrenal.scenarios")
        covariates = _patient(
            egfr=egfr, uacr=uacr, hba1c=hba1c, age=age, sex=sex, weight_kg=weight, drugs=drug
        )
        wanted = Changes(horizon, tuple(endpoint or ()), covariates).apply(api.load_scenario(scenario))
        with progress_bar(wanted.name) as step:
            result = api.population(
                wanted,
                patients=patients,
                draws=draws,
                seed=seed,
                source=_source(posterior_file, prior),
                workers=workers,
                cluster=cluster,
                progress=step,
            )
        _finish(result, folder, as_json)


@main.command(epilog="Example:  [bold]mscrenal explain uc-dn-weekly --endpoint uacr_percent_change[/bold]")
def explain(
    scenario: ScenarioName,
    arm: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="The arm to explain.", show_default="the first after the reference"
        ),
    ] = None,
    endpoint: Annotated[
        str | None, typer.Option(metavar="NAME", help="The endpoint.", show_default="the scenario's first")
    ] = None,
    horizon: Horizon = None,
    patients: Patients = None,
    draws: Draws = 50,
    seed: Seed = 1,
    posterior_file: PosteriorFile = None,
    prior: Prior = False,
    workers: Workers = None,
    cluster: Cluster = None,
    as_json: Json = False,
    out: Out = None,
    egfr: Egfr = None,
    uacr: Uacr = None,
    hba1c: Hba1c = None,
    age: Age = None,
    sex: Sex = None,
    weight: Weight = None,
    drug: Drugs = None,
) -> None:
    """How much of the benefit each of the six arms of action carries (Shapley values over knock-outs)."""
    with clear_errors():
        folder = _output(out)
        api = import_module("mscrenal.scenarios")
        covariates = _patient(
            egfr=egfr, uacr=uacr, hba1c=hba1c, age=age, sex=sex, weight_kg=weight, drugs=drug
        )
        wanted = Changes(horizon, (endpoint,) if endpoint else (), covariates).apply(
            api.load_scenario(scenario)
        )
        with progress_bar(wanted.name) as step:
            result = api.explain(
                wanted,
                arm=arm,
                endpoint=endpoint,
                draws=draws,
                seed=seed,
                source=_source(posterior_file, prior),
                workers=workers,
                cluster=cluster,
                patients=patients,
                progress=step,
            )
        _finish(result, folder, as_json)


@main.command(
    epilog="Example:  [bold]mscrenal sensitivity uc-dn-weekly --endpoint uacr_percent_change --samples 256[/bold]"
)
def sensitivity(
    scenario: ScenarioName,
    arm: Annotated[
        str | None, typer.Option(metavar="NAME", help="The arm.", show_default="the first treated one")
    ] = None,
    endpoint: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="The endpoint.", show_default="egfr_change, or the scenario's first"
        ),
    ] = None,
    absolute: Annotated[
        bool,
        typer.Option(
            "--absolute",
            help="The arm's own endpoint, not its difference from the reference.",
            show_default=False,
        ),
    ] = False,
    parameters: Annotated[
        int, typer.Option(metavar="K", min=1, help="How many parameters the screen keeps for the indices.")
    ] = 15,
    samples: Annotated[
        int,
        typer.Option(
            help="Blocks of the design, a power of two from 16 to 16384; each costs K + 2 simulations."
        ),
    ] = 1024,
    horizon: Horizon = None,
    patients: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=100_000,
            help="Mean over a virtual population of this size.",
            show_default="one typical patient",
        ),
    ] = None,
    draws: Annotated[
        int,
        typer.Option(
            min=2, max=100_000, help="Draws behind the quantiles of a posterior; the prior's are exact."
        ),
    ] = 1000,
    seed: Seed = 1,
    posterior_file: PosteriorFile = None,
    prior: Prior = False,
    workers: Workers = None,
    cluster: Cluster = None,
    as_json: Json = False,
    out: Out = None,
    egfr: Egfr = None,
    uacr: Uacr = None,
    hba1c: Hba1c = None,
    age: Age = None,
    sex: Sex = None,
    weight: Weight = None,
    drug: Drugs = None,
) -> None:
    """Which parameters an endpoint depends on: Sobol indices and a tornado."""
    with clear_errors():
        folder = _output(out)
        api = import_module("mscrenal.scenarios")
        covariates = _patient(
            egfr=egfr, uacr=uacr, hba1c=hba1c, age=age, sex=sex, weight_kg=weight, drugs=drug
        )
        wanted = Changes(horizon, (endpoint,) if endpoint else (), covariates).apply(
            api.load_scenario(scenario)
        )
        with progress_bar(wanted.name) as step:
            result = api.sensitivity(
                wanted,
                arm=arm,
                endpoint=endpoint,
                absolute=absolute,
                parameters=parameters,
                samples=samples,
                draws=draws,
                seed=seed,
                source=_source(posterior_file, prior),
                workers=workers,
                cluster=cluster,
                patients=patients,
                progress=step,
            )
        _finish(result, folder, as_json)


@main.command(
    epilog="Example:  [bold]mscrenal trial uc-dn-weekly --endpoint uacr_percent_change --target-assurance 0.8[/bold]"
)
def trial(
    scenario: Annotated[
        str,
        typer.Argument(
            metavar="SCENARIO", help="A name of `mscrenal scenarios`, a .toml file or an event table."
        ),
    ] = DEFAULT_SCENARIO,
    n: Annotated[
        int | None,
        typer.Option(
            "--n", metavar="N", help="Patients in the smallest arm.", show_default="the scenario's", min=2
        ),
    ] = None,
    trials: Annotated[int, typer.Option(min=20, max=1_000_000, help="Virtual trials of the design.")] = 500,
    endpoint: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="What is tested.", show_default="the scenario's"),
    ] = None,
    analysis: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="ancova, t-test, mmrm, slopes, mixed, proportions or log-rank.",
            show_default="the endpoint's",
        ),
    ] = None,
    alpha: Annotated[
        float | None, typer.Option(help="Two-sided level of each comparison.", show_default="0.05")
    ] = None,
    arm: Annotated[
        list[str] | None, typer.Option("--arm", metavar="NAME", help="A randomised arm; repeat it.")
    ] = None,
    target_assurance: Annotated[
        float | None,
        typer.Option(
            metavar="SHARE", help="Find the smallest trial with this assurance.", show_default=False
        ),
    ] = None,
    curve: Annotated[
        bool, typer.Option("--curve/--no-curve", help="Simulate other sizes as well, for the figure.")
    ] = True,
    draws: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=100_000,
            help="Worlds that trials are drawn from.",
            show_default="as many as trials, at most 2000",
        ),
    ] = None,
    seed: Seed = 1,
    horizon: Horizon = None,
    posterior_file: PosteriorFile = None,
    prior: Prior = False,
    workers: Workers = None,
    cluster: Cluster = None,
    resume: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            help="Keep finished trials here as they come, and go on with those that are there.",
            show_default=False,
        ),
    ] = None,
    as_json: Json = False,
    out: Out = None,
) -> None:
    """Virtual trials: assurance, power and type I error of a design, and the size that it needs."""
    with clear_errors():
        folder = _output(out)
        api = import_module("mscrenal.scenarios")
        wanted = Changes(horizon).apply(api.load_scenario(scenario))
        with progress_bar(wanted.name) as step:
            result = api.trial(
                wanted,
                n=n,
                trials=trials,
                endpoint=endpoint,
                analysis=analysis,
                alpha=alpha,
                arms=arm,
                target_assurance=target_assurance,
                curve=curve,
                draws=draws,
                seed=seed,
                source=_source(posterior_file, prior),
                workers=workers,
                cluster=cluster,
                resume=resume,
                progress=step,
            )
        _finish(result, folder, as_json)


@main.command(
    epilog="Example:  [bold]mscrenal optimise uc-dn-weekly --products UC --max-visits 3 --max-cells 3e6/kg[/bold]"
)
def optimise(
    scenario: Annotated[
        str,
        typer.Argument(
            metavar="SCENARIO",
            help="Whose patient, reference arm and horizon: a name of `mscrenal scenarios`, a .toml file or an event table.",
        ),
    ] = DEFAULT_SCENARIO,
    products: Annotated[
        list[str] | None,
        typer.Option(
            "--products",
            metavar="NAME",
            help="A product to choose from; repeat it, or part by commas.",
            show_default="those of the scenario",
        ),
    ] = None,
    routes: Annotated[
        list[str] | None,
        typer.Option(
            "--routes", metavar="NAME", help="A route, likewise.", show_default="those of the scenario"
        ),
    ] = None,
    objective: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="The endpoint to gain in.",
            show_default="egfr_slope_total, or the scenario's first",
        ),
    ] = None,
    gain: Annotated[
        float | None,
        typer.Option(
            help="The gain that matters, in the endpoint's unit.", show_default="0.75 a year in eGFR slope"
        ),
    ] = None,
    max_cells: Annotated[
        str | None,
        typer.Option(
            metavar="CELLS",
            help="Most cells in all: 6e6/kg, or 400e6.",
            show_default="6e6/kg, or the scenario's most",
        ),
    ] = None,
    max_visits: Annotated[
        int | None,
        typer.Option(min=1, help="Most days with a dose.", show_default="6, or the scenario's most"),
    ] = None,
    min_interval: Annotated[
        str | None,
        typer.Option(
            metavar="TIME", help="Shortest time between doses.", show_default="1w, or the scenario's shortest"
        ),
    ] = None,
    min_dose: Annotated[
        str | None,
        typer.Option(
            metavar="DOSE", help="Smallest dose: 3e5/kg, or '50 ug/kg' of EVs.", show_default="0.3e6/kg"
        ),
    ] = None,
    max_dose: Annotated[
        str | None,
        typer.Option(metavar="DOSE", help="Largest dose.", show_default="4e6/kg, the most in people"),
    ] = None,
    max_risk: Annotated[
        float | None,
        typer.Option(
            help="Largest median sensitisation, 0 to 1: how far a further dose would be rejected.",
            show_default="none",
        ),
    ] = None,
    margin: Annotated[
        float,
        typer.Option(
            help="What the sparing regimens may lack of the largest expected gain, as a share of it."
        ),
    ] = 0.1,
    horizon: Horizon = None,
    patients: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=100_000,
            help="Mean over a virtual population of this size.",
            show_default="one typical patient",
        ),
    ] = None,
    draws: Draws = 400,
    seed: Seed = 1,
    posterior_file: PosteriorFile = None,
    prior: Prior = False,
    workers: Workers = None,
    cluster: Cluster = None,
    as_json: Json = False,
    out: Out = None,
    egfr: Egfr = None,
    uacr: Uacr = None,
    hba1c: Hba1c = None,
    age: Age = None,
    sex: Sex = None,
    weight: Weight = None,
    drug: Drugs = None,
) -> None:
    """The best regimens under limits: dose, number, interval, product and route; and what knowing more is worth."""
    with clear_errors():
        folder = _output(out)
        api = import_module("mscrenal.scenarios")
        covariates = _patient(
            egfr=egfr, uacr=uacr, hba1c=hba1c, age=age, sex=sex, weight_kg=weight, drugs=drug
        )
        wanted = Changes(None, (), covariates).apply(api.load_scenario(scenario))
        with progress_bar(wanted.name) as step:
            result = api.optimise(
                wanted,
                products=_names(products),
                routes=_names(routes),
                objective=objective,
                gain=gain,
                max_cells=max_cells,
                max_visits=max_visits,
                min_interval=min_interval,
                min_dose=min_dose,
                max_dose=max_dose,
                max_risk=max_risk,
                horizon=horizon,
                margin=margin,
                draws=draws,
                seed=seed,
                source=_source(posterior_file, prior),
                workers=workers,
                cluster=cluster,
                patients=patients,
                progress=step,
            )
        _finish(result, folder, as_json)


def _names(given: list[str] | None) -> tuple[str, ...] | None:
    """Names that came one by one or with commas between; None for none."""
    names = tuple(name.strip() for text in given or () for name in text.split(",") if name.strip())
    return names or None


@main.command(epilog="Example:  [bold]mscrenal facts --draws 50 --json > facts.json[/bold]")
def facts(
    draws: Draws = 20,
    seed: Seed = 1,
    posterior_file: PosteriorFile = None,
    prior: Prior = False,
    workers: Workers = None,
    as_json: Json = False,
    out: Out = None,
) -> None:
    """The published facts that the model must reproduce, each beside the prediction."""
    with clear_errors():
        folder = _output(out)
        api = import_module("mscrenal.scenarios")
        with progress_bar("facts") as step:
            result = api.facts(
                draws=draws,
                seed=seed,
                source=_source(posterior_file, prior),
                workers=workers,
                progress=step,
            )
        _finish(result, folder, as_json)


@main.command(epilog="Example:  [bold]mscrenal validate mine.csv --out result[/bold]")
def validate(
    file: Annotated[
        Path | None,
        typer.Argument(
            metavar="FILE.csv",
            help="Published rows in the evidence schema.",
            show_default="the shipped studies that were held out",
        ),
    ] = None,
    studies: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.toml",
            help="How the rows of FILE.csv become predictions, instead of the shipped maps and the rules.",
            show_default=False,
        ),
    ] = None,
    draws: Draws = 400,
    seed: Seed = 1,
    posterior_file: PosteriorFile = None,
    workers: Workers = None,
    as_json: Json = False,
    out: Out = None,
) -> None:
    """Published rows beside what the posterior predicts for them: coverage, and two rivals to beat.

    Never changes the posterior. Rows that the model cannot predict are skipped with the reason.
    """
    with clear_errors():
        folder = _output(out)
        api = import_module("mscrenal.scenarios")
        with progress_bar("validate") as step:
            result = api.validate(
                file,
                studies_file=studies,
                posterior=posterior_file,
                draws=draws,
                seed=seed,
                workers=workers,
                progress=step,
            )
        _finish(result, folder, as_json)


@main.command(epilog="Example:  [bold]mscrenal posterior --json > posterior.json[/bold]")
def posterior(
    file: Annotated[
        Path | None,
        typer.Argument(
            metavar="FILE", help="A posterior.nc of `mscrenal calibrate`.", show_default="the one that ships"
        ),
    ] = None,
    as_json: Json = False,
    out: Out = None,
) -> None:
    """What a posterior is: its data, how well it was sampled, what each parameter learnt and from whom."""
    with clear_errors():
        folder = _output(out)
        api = import_module("mscrenal.scenarios")
        _finish(api.posterior("posterior" if file is None else file), folder, as_json)


@main.command(
    epilog="Example:  [bold]mscrenal calibrate --out my-run[/bold], and after a break  "
    "[bold]mscrenal calibrate --resume my-run[/bold]"
)
def calibrate(
    chains: Annotated[int | None, typer.Option(metavar="N", help="Chains of NUTS.", show_default="4")] = None,
    tune: Annotated[
        int | None, typer.Option(metavar="N", help="Draws of each chain to tune it by.", show_default="500")
    ] = None,
    draws: Annotated[
        int | None, typer.Option(metavar="N", help="Draws of each chain after tuning.", show_default="1500")
    ] = None,
    seed: Annotated[
        int | None,
        typer.Option(metavar="N", help="The same seed gives the same posterior.", show_default="1"),
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=1024,
            help="Processes on this machine; by default one per processor.",
            show_default=False,
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            metavar="FOLDER",
            help="Where everything goes: a new or empty folder, or this calibration's own, which goes on.",
            show_default="calibration-run",
        ),
    ] = None,
    resume: Annotated[
        Path | None,
        typer.Option(
            "--resume",
            metavar="FOLDER",
            help="Go on with the calibration in this folder, with the settings it was begun with.",
            show_default=False,
        ),
    ] = None,
    draft: Annotated[
        bool,
        typer.Option(
            "--draft",
            help="A normal approximation instead of NUTS: minutes, for a quick look.",
            show_default=False,
        ),
    ] = False,
    as_json: Json = False,
) -> None:
    """Fit the model to the evidence. The posterior that ships stays as it is: use the new one by --posterior."""
    with clear_errors():
        api, made = import_module("mscrenal.scenarios"), import_module("mscrenal.scenarios.calibrate")
        try:
            with work_bar("calibrate") as step:
                result = api.calibrate(
                    chains=chains,
                    tune=tune,
                    draws=draws,
                    seed=seed,
                    workers=workers,
                    out=out,
                    resume=resume,
                    draft=draft,
                    progress=step,
                )
        except KeyboardInterrupt:
            folder = resume or out or made.DEFAULT_FOLDER
            error_console().print(
                Text(f"Interrupted: what is computed is kept; go on with --resume {folder}"), soft_wrap=True
            )
            raise typer.Exit(130) from None
        made.saved_report(result, _report())
        for note in result.notes:
            error_console().print(Text.assemble(("Note: ", "bold"), note), soft_wrap=True)
        error_console().print(
            Text(f"{result.file}: {result.minutes:.1f} min. Use it with --posterior {result.file}"),
            soft_wrap=True,
        )
        _finish(result, None, as_json)


@main.command(epilog="Example:  [bold]mscrenal verify[/bold]")
def verify(workers: Workers = None, as_json: Json = False, out: Out = None) -> None:
    """Check the numerics on this machine: independent solvers, finite differences, invariants.

    Leaves with code 3 if a check does not pass.
    """
    with clear_errors():
        folder = _output(out)
        api = import_module("mscrenal.scenarios")
        with progress_bar("verify") as step:
            result = api.verify(workers=workers, progress=step)
        _finish(result, folder, as_json)
    failed = [name for name, passed in result.passed.items() if not passed]
    if failed:
        error_console().print(
            f"[bold]{len(failed)} of {len(result.checks)} checks do not pass:[/bold] {', '.join(failed)}. "
            "Numbers computed on this machine are not to be trusted; please report the table above."
        )
        raise typer.Exit(3)


@main.command(
    epilog="Example:  [bold]mscrenal export sbml uc.xml --scenario uc-dn-weekly --arm 'UC weekly x3'[/bold]"
)
def export(
    kind: Annotated[
        str,
        typer.Argument(
            metavar="KIND",
            help="sbml: one arm for other simulators; omex: the same with its simulation; latex: the model's "
            "equations; events: a NONMEM-style table of all arms.",
        ),
    ],
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="The file to write; its folder has to be there.")
    ],
    scenario: Annotated[
        str,
        typer.Option(
            metavar="SCENARIO", help="A name of `mscrenal scenarios`, a .toml file or an event table."
        ),
    ] = DEFAULT_SCENARIO,
    arm: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="The arm (sbml, omex).", show_default="the first with a dose"),
    ] = None,
    draw: Annotated[
        int | None,
        typer.Option(
            metavar="K", help="Parameters of this draw, counted from 0 (sbml, omex).", show_default="medians"
        ),
    ] = None,
    seed: Seed = 1,
    posterior_file: PosteriorFile = None,
    prior: Prior = False,
    force: Annotated[
        bool, typer.Option("--force", help="Replace a file that exists.", show_default=False)
    ] = False,
    as_json: Json = False,
) -> None:
    """Write a file for other programs: SBML, a COMBINE archive, LaTeX or an event table."""
    with clear_errors():
        api, results = import_module("mscrenal.scenarios"), import_module("mscrenal.scenarios.results")
        path = api.export(
            kind,
            file,
            scenario,
            arm=arm,
            draw=draw,
            seed=seed,
            source=_source(posterior_file, prior),
            force=force,
        )
        if as_json:
            said = {"command": "export", "kind": kind, "path": str(path), "provenance": _plain_provenance()}
            typer.echo(results.to_json_text(said))
        else:
            typer.echo(path)


@main.command(epilog="Example:  mscrenal app --port 8650")
def app(
    port: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            help="Port on this machine; by default the first free one from 8642.",
            show_default=False,
        ),
    ] = None,
    open_browser: Annotated[
        bool, typer.Option("--open/--no-open", help="Open it in the browser of this machine.")
    ] = True,
) -> None:
    """The web page: explore, mechanism, trial, evidence, lessons. On this machine only; ends with Ctrl-C."""
    with clear_errors():
        page = import_module("mscrenal.app.page.serve")

        def ready(address: str) -> None:
            error_console().print(f"The page is at [bold]{address}[/bold]  (Ctrl-C ends it)")
            if open_browser:
                import_module("webbrowser").open(address)

        page.serve(port, ready)


def _plain_provenance() -> dict[str, Any]:
    """What a list that was not computed can say of where it comes from."""
    try:
        return {"package": "mscrenal", "version": version("mscrenal")}
    except PackageNotFoundError:
        return {"package": "mscrenal"}


if __name__ == "__main__":
    main()
