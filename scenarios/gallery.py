"""The scenarios that ship, and the one way to get a scenario: by name, by path, or as an event table."""

from __future__ import annotations

from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path

from mscrenal.model.declare import nearest
from mscrenal.model.text import ScenarioError
from mscrenal.scenarios.events_table import read_events
from mscrenal.scenarios.scenario import Scenario
from mscrenal.scenarios.schema import read_scenario

__all__ = ["DEFAULT_SCENARIO", "gallery", "gallery_names", "load_scenario", "scenario_toml"]

DEFAULT_SCENARIO = "uc-dn-weekly"
LARGEST_FILE = 20_000_000  # bytes; a scenario has a few thousand, an event table seldom a million


def _folder() -> Traversable:
    return files("mscrenal.scenarios") / "gallery"


def gallery_names() -> tuple[str, ...]:
    """Names of the shipped scenarios, `DEFAULT_SCENARIO` first, the rest by name."""
    names = sorted(
        item.name.removesuffix(".toml") for item in _folder().iterdir() if item.name.endswith(".toml")
    )
    return tuple(sorted(names, key=lambda name: (name != DEFAULT_SCENARIO, name)))


def gallery() -> list[Scenario]:
    """All shipped scenarios, in the order of `gallery_names`."""
    return [load_scenario(name) for name in gallery_names()]


def scenario_toml(name: str) -> str:
    """The text of a shipped scenario, to be edited (ScenarioError, with the nearest names, if unknown)."""
    if name not in gallery_names():
        raise ScenarioError(f"unknown scenario {name!r}.{nearest(name, gallery_names())}")
    return (_folder() / f"{name}.toml").read_text(encoding="utf-8")


def load_scenario(name_or_path: str | Path | Scenario) -> Scenario:
    """Load a scenario.

    Parameters
    ----------
    name_or_path
        A name of the gallery, or the path of a ``.toml`` scenario file or of a ``.csv`` event table. A name
        of the gallery wins over a file without ending of the same name. A `Scenario` comes back as it is.

    Raises
    ------
    ScenarioError
        Nothing of that name, or a file that cannot be read or run as it is written.
    """
    if isinstance(name_or_path, Scenario):
        return name_or_path
    text = str(name_or_path)
    path = Path(text)
    if isinstance(name_or_path, str) and text in gallery_names():
        return read_scenario(scenario_toml(text), name=text, file=f"{text}.toml")
    looks_like_path = path.suffix.lower() in (".toml", ".csv") or len(path.parts) > 1 or path.exists()
    if not looks_like_path:
        raise ScenarioError(
            f"unknown scenario {text!r}.{nearest(text, gallery_names())} Or give the path of a .toml "
            "scenario file "
            "or of a .csv event table."
        )
    if path.suffix.lower() not in (".toml", ".csv"):
        raise ScenarioError(
            f"{text}: given a file that ends in {path.suffix!r}. Allowed: .toml (scenario), .csv (events)."
        )
    content = _read_file(path)
    if path.suffix.lower() == ".csv":
        return read_events(content, name=path.stem, file=text).scenario()
    return read_scenario(content, name=path.stem, file=text)


def _read_file(path: Path) -> str:
    if not path.exists():
        stem = path.name.removesuffix(path.suffix)
        raise ScenarioError(
            f"{path}: there is no such file. `mscrenal scenarios uc-dn-weekly > {path.name}` makes one to "
            "edit."
            + (
                f" {stem!r} is a scenario of the gallery: leave out the ending."
                if stem in gallery_names()
                else ""
            )
        )
    if path.is_dir():
        raise ScenarioError(f"{path}: this is a folder. Give the path of a .toml or .csv file.")
    try:
        if path.stat().st_size > LARGEST_FILE:
            raise ScenarioError(f"{path}: larger than {LARGEST_FILE // 1_000_000} MB. Is it a scenario?")
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ScenarioError(f"{path}: not UTF-8 text (byte {error.start}). Save it as UTF-8.") from None
    except OSError as error:
        raise ScenarioError(f"{path}: cannot be read ({error.strerror}).") from None
