"""The command line that gives a result again, told from what a command was called with."""

from __future__ import annotations

import shlex
from importlib import import_module
from pathlib import Path
from typing import Any

import typer

__all__ = ["command_line"]

# They change where a result goes or who computes it, and no number of it.
_WITHOUT_EFFECT = ("out", "as_json", "workers", "cluster", "show_version")
# Their defaults are written out as well: a later version may have others.
_ALWAYS = ("draws", "seed", "trials", "samples", "chains", "tune")


def command_line() -> str:
    """The command that is running, as one would type it again; empty outside of one, and for a run that was resumed.

    Options with their default values are left out, except the sizes and the seed. Of a file only the name is told:
    where it lay on the sender's machine helps nobody.

    Returns
    -------
    str
        Quoted for a POSIX shell.
    """
    context = _context()
    if context is None or context.parent is None or context.params.get("resume") is not None:
        return ""
    arguments: list[str] = []
    options: list[str] = []
    for parameter in context.command.params:
        name, value = str(parameter.name), context.params.get(parameter.name)
        given = context.get_parameter_source(name)
        chosen = (given is not None and given.name != "DEFAULT") or name in _ALWAYS
        if value is None or name in _WITHOUT_EFFECT or not chosen:
            continue
        values = value if isinstance(value, (list, tuple)) else [value]
        if parameter.param_type_name == "argument":
            arguments += [_told(item) for item in values]
        elif isinstance(value, bool):
            options += [parameter.opts[0]] if value else parameter.secondary_opts[:1]
        else:
            for item in values:
                options += [_long(parameter.opts), _told(item)]
    return shlex.join(["mscrenal", str(context.info_name), *arguments, *options])


def _long(names: list[str]) -> str:
    return next((name for name in names if name.startswith("--")), names[0])


def _told(value: Any) -> str:
    text = str(value)
    is_file = isinstance(value, Path) or (text.endswith((".toml", ".csv", ".nc")) and Path(text).is_file())
    return Path(text).name if is_file else text


def _context() -> Any:
    """The running command's context, None outside of one.

    Typer brings a Click of its own from 0.22 on and uses the installed one before: what its context derives from says which.
    """
    click = typer.Context.__mro__[1].__module__.rpartition(".")[0]
    return import_module(f"{click}.globals").get_current_context(silent=True)
