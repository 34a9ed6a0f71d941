"""`--config FILE.toml`: any option of a command, from a file; the command line wins."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Annotated, Any

import typer

from rwkv_edge.errors import UsageError


def _read_config(context: typer.Context, path: Path | None) -> Path | None:
    """Make what the file says the command's defaults, so that they are checked like options."""
    if path is None or context.resilient_parsing:
        return path
    tomllib = _toml_reader()
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"--config {path}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"--config {path}: not TOML ({error})") from error
    options = {
        option.lstrip("-").replace("_", "-"): (parameter, option in parameter.secondary_opts)
        for parameter in context.command.params
        for option in (*parameter.opts, *parameter.secondary_opts)
        if parameter.name not in ("config", "help")
    }
    defaults: dict[str, Any] = {}
    for key, value in values.items():
        if key.replace("_", "-") not in options:
            known = ", ".join(sorted(options))
            raise UsageError(f"--config {path}: no option '{key}'; there are {known}")
        parameter, negates = options[key.replace("_", "-")]
        repeatable = getattr(parameter, "multiple", False)
        if isinstance(value, dict) or isinstance(value, list) != repeatable:
            form = "a list" if repeatable else "a single value"
            raise UsageError(f"--config {path}: '{key}' must be {form}")
        if negates and not isinstance(value, bool):
            raise UsageError(f"--config {path}: '{key}' must be true or false")
        if parameter.name in defaults:
            raise UsageError(f"--config {path}: '{key}' is given twice")
        defaults[str(parameter.name)] = not value if negates else value
    context.default_map = {**(context.default_map or {}), **defaults}
    return path


def _toml_reader() -> Any:
    """Return Python's own module, or the package that it came from."""
    for name in ("tomllib", "tomli"):
        try:
            return importlib.import_module(name)
        except ModuleNotFoundError:
            continue
    raise UsageError("--config needs Python 3.11, or the package 'tomli': pip install tomli")


ConfigOption = Annotated[
    Path | None,
    typer.Option(
        callback=_read_config,
        is_eager=True,
        help="TOML file with any of these options, one a line: source = 'rtsp://box/live'.",
    ),
]
