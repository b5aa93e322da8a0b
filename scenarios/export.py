"""Write what other programs read: SBML, a COMBINE archive, LaTeX, an event table."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from mscrenal.model.declare import nearest
from mscrenal.model.patient import Patient
from mscrenal.model.sbml import ExchangeError, check_target, sbml_document
from mscrenal.scenarios.events_table import write_events
from mscrenal.scenarios.gallery import DEFAULT_SCENARIO, load_scenario
from mscrenal.scenarios.omex import archive
from mscrenal.scenarios.scenario import Arm, Scenario
from mscrenal.scenarios.sources import Source, draws_of

__all__ = ["KINDS", "ExchangeError", "export"]


@dataclass(frozen=True)
class _Wanted:
    """What is to be exported: a scenario and, for one subject under one regimen, the arm and the draw."""

    scenario: Scenario
    arm: str | None
    draw: int | None
    seed: int
    source: Source = "posterior"


def export(
    kind: str,
    path: str | Path,
    scenario: str | Path | Scenario = DEFAULT_SCENARIO,
    *,
    arm: str | None = None,
    draw: int | None = None,
    seed: int = 1,
    source: Source = "posterior",
    force: bool = False,
) -> Path:
    """Write one file for another program.

    Parameters
    ----------
    kind : {'sbml', 'omex', 'latex', 'events'}
        ``sbml``: the patient of a scenario under one arm, SBML Level 3 Version 2. ``omex``: the same with the
        simulation (SED-ML) in a COMBINE archive. ``latex``: the equations of the model, which no scenario
        changes. ``events``: all arms of a scenario as an event table in the style of NONMEM.
    path : path
        The file; its folder has to be there.
    scenario : str, path or Scenario
        A name of the gallery, a TOML file, an event table, or a scenario.
    arm : str, optional
        Of sbml and omex; default: the first with a dose, else the first.
    draw : int, optional
        Of sbml and omex: the parameters of this draw of `mscrenal.calibration.draws`, counted from 0;
        default: the medians.
    seed : int
    source : {'posterior', 'prior'}, path or Posterior
        Of sbml and omex: where the medians or the draw come from.
    force : bool
        Replace a file that exists.

    Returns
    -------
    Path
        The file written.

    Raises
    ------
    ExchangeError
        An unknown kind, a path that cannot be written, options that do not go with the kind, a scenario of a
        population where one patient is needed, or libsbml not installed.
    ScenarioError, InitialStateError
        The scenario or the arm is unknown, or no state of the model meets the patient under this draw.

    Examples
    --------
    >>> from mscrenal.scenarios import export
    >>> export("sbml", "uc.xml", "uc-dn-weekly", arm="UC weekly x3")  # doctest: +SKIP
    """
    if kind not in KINDS:
        raise ExchangeError(f"No kind of export {kind!r}.{nearest(kind, KINDS)}")
    target = check_target(path, force=force)
    if kind not in ("sbml", "omex"):
        given = [name for name, value in (("arm", arm), ("draw", draw)) if value is not None]
        if given:
            raise ExchangeError(
                f"{kind} does not depend on {' and '.join(given)}: it holds "
                f"{'the whole model' if kind == 'latex' else 'all arms, and no parameters'}. Leave "
                f"{' and '.join(f'--{name}' for name in given)} out, or export sbml."
            )
    content = KINDS[kind](_Wanted(load_scenario(scenario), arm, draw, seed, source))
    try:
        target.write_bytes(content)
    except OSError as error:
        raise ExchangeError(
            f"{target}: cannot be written ({error.strerror}). Choose another place."
        ) from None
    return target


# --------------------------------------------------------------------------- one subject under one arm


def chosen_arm(scenario: Scenario, name: str | None) -> Arm:
    """The arm of that name; without one, the first that gives a dose."""
    if name is not None:
        return scenario.arm(name)
    return next((arm for arm in scenario.arms if arm.n_doses), scenario.arms[0])


def _patient(scenario: Scenario) -> Patient:
    if scenario.patient is None:
        raise ExchangeError(
            f"Scenario {scenario.name!r} describes a population, and a model file holds one subject. Export its "
            f"typical patient: mscrenal export events typical.csv --scenario {scenario.name}, then give "
            "--scenario typical.csv; or write a [patient] in place of [population] in a copy."
        )
    return scenario.patient.patient()


def _theta(wanted: _Wanted) -> tuple[dict[str, float], str]:
    """The parameters of one draw, or their medians; and what they are, in words. None for the medians of the prior."""
    draw, seed = wanted.draw, wanted.seed
    if draw is None:
        if wanted.source == "prior":
            return {}, ""
        return draws_of(1, seed, wanted.source).median(), ", medians of the posterior"
    if isinstance(draw, bool) or not isinstance(draw, int) or not 0 <= draw < 100_000:
        raise ExchangeError(f"draw: given {draw!r}. Allowed: a whole number from 0 to 99999.")
    if isinstance(seed, bool) or not isinstance(seed, int) or seed < 0:
        raise ExchangeError(f"seed: given {seed!r}. Allowed: a whole number, zero or more.")
    # Each parameter has a stream of its own: draw 3 is the same however many are drawn after it.
    drawn = draws_of(draw + 1, seed, wanted.source)
    return drawn.at(draw), f", draw {draw} of seed {seed} ({drawn.origin})"


def _sbml(wanted: _Wanted) -> tuple[str, float, str]:
    """SBML, days from its time 0 to the horizon, and title."""
    scenario = wanted.scenario
    patient = _patient(scenario)
    arm = chosen_arm(scenario, wanted.arm)
    if arm.resets or any(course.steady_state for course in arm.courses):
        raise ExchangeError(
            f"arm {arm.name!r} has a reset or a dose at steady state, which the model files cannot say. Allowed: "
            "doses. Export another arm, or write the doses out with II and ADDL."
        )
    theta, said = _theta(wanted)
    title = f"{scenario.title}: {arm.name}{said}"
    text = sbml_document(
        patient,
        arm.doses(float(patient.weight_kg or 1.0)),
        arm.drugs_added,
        theta,
        horizon_days=scenario.horizon_days,
        title=title,
    )
    return text, scenario.horizon_days + patient.onset_days, title


def _sbml_file(wanted: _Wanted) -> bytes:
    return _sbml(wanted)[0].encode()


def _omex_file(wanted: _Wanted) -> bytes:
    text, duration, title = _sbml(wanted)
    return archive(text, duration, title=title)


def _events_file(wanted: _Wanted) -> bytes:
    return write_events(wanted.scenario).encode()


def _latex_file(wanted: _Wanted) -> bytes:
    from mscrenal.scenarios.latex import latex_document

    return latex_document().encode()


KINDS: Mapping[str, Callable[[_Wanted], bytes]] = {
    "sbml": _sbml_file,
    "omex": _omex_file,
    "latex": _latex_file,
    "events": _events_file,
}
