"""`--config FILE.toml`: any option of a command, from a file; the command line wins."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rwkv_edge.errors import UsageError


def _read_config(context: typer.Context, path: Path | None) -> Path | None:
    """Make what the file says the command's defaults, so that they are checked like options."""
    if path is None or context.resilient_parsing:
        return path
    try:
        import tomllib  # type: ignore[import-not-found]  # from Python 3.11 on
    except ModuleNotFoundError:
        raise UsageError("--config needs Python 3.11 or newer; give the options instead") from None
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"--config {path}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"--config {path}: not TOML ({error})") from error
    names = {
        option.lstrip("-").replace("-", "_"): parameter.name
        for parameter in context.command.params
        for option in (*parameter.opts, *parameter.secondary_opts)
        if parameter.name not in ("config", "help")
    }
    defaults = {}
    for key, value in values.items():
        name = names.get(key.replace("-", "_"))
        if name is None:
            known = ", ".join(sorted(key.replace("_", "-") for key in names))
            raise UsageError(f"--config {path}: no option '{key}'; there are {known}")
        if isinstance(value, dict | list):
            raise UsageError(f"--config {path}: '{key}' must be a single value")
        defaults[name] = value
    context.default_map = {**(context.default_map or {}), **defaults}
    return path


ConfigOption = Annotated[
    Path | None,
    typer.Option(
        callback=_read_config,
        is_eager=True,
        help="TOML file with any of these options, one a line: source = 'rtsp://box/live'.",
    ),
]
