"""The table of commands. Each has a thin file, which imports what is heavy when it runs."""

from __future__ import annotations

from typing import Annotated

import typer

from rwkv_edge import __version__
from rwkv_edge.cli.benchmark import benchmark
from rwkv_edge.cli.build import build
from rwkv_edge.cli.compare import compare
from rwkv_edge.cli.data import data
from rwkv_edge.cli.demo import demo
from rwkv_edge.cli.doctor import doctor
from rwkv_edge.cli.estimate import estimate
from rwkv_edge.cli.eval import evaluate
from rwkv_edge.cli.export import export
from rwkv_edge.cli.plugin import plugin
from rwkv_edge.cli.robustness import robustness
from rwkv_edge.cli.run import run
from rwkv_edge.cli.serve import serve
from rwkv_edge.cli.split import split
from rwkv_edge.cli.stream import stream
from rwkv_edge.cli.synth import synth
from rwkv_edge.cli.train import train
from rwkv_edge.cli.weights import weights

app = typer.Typer(
    name="rwkv-edge",
    help="RWKV-UNet for endoscopy, from labelled images to a live overlay. "
    "Research use only, not for diagnosis.",
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

COMMANDS = {
    "doctor": doctor,
    "demo": demo,
    "run": run,
    "stream": stream,
    "serve": serve,
    "eval": evaluate,
    "compare": compare,
    "robustness": robustness,
    "train": train,
    "export": export,
    "build": build,
    "benchmark": benchmark,
    "estimate": estimate,
    "synth": synth,
    "split": split,
}
for _name, _command in COMMANDS.items():
    app.command(_name)(_command)  # type: ignore[type-var]
app.add_typer(data, name="data")
app.add_typer(weights, name="weights")
app.add_typer(plugin, name="plugin")


def _show_version(wanted: bool) -> None:
    if wanted:
        print(f"rwkv-edge {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version."),
    ] = False,
    debug: Annotated[
        bool, typer.Option("--debug", help="Show the traceback of an error (allowed anywhere).")
    ] = False,
) -> None: ...
