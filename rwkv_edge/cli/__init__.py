"""The command line: `main` turns our errors into one line and an exit code."""

from __future__ import annotations

import os
import sys
import traceback

from rwkv_edge.cli import processes
from rwkv_edge.errors import RwkvEdgeError


def main(arguments: list[str] | None = None) -> None:
    """Run `rwkv-edge` and exit: 0 done, 1 failed, 2 wrong usage, 130 interrupted.

    `--debug` anywhere on the line, or RWKV_EDGE_DEBUG=1, shows the traceback of an error.
    """
    from rwkv_edge.cli.app import app

    words = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in words or os.environ.get("RWKV_EDGE_DEBUG", "") not in ("", "0")
    words = [word for word in words if word != "--debug"] or ["--help"]
    try:
        # typer turns Ctrl-C into the exit code 130; without `standalone_mode` it returns the code
        code = app(words, prog_name="rwkv-edge", standalone_mode=False)
    except BrokenPipeError:
        # the reader of our output went away, as `| head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 1
    except Exception as error:
        code = getattr(error, "exit_code", 1)
        if not processes.is_first_to_fail():
            pass  # another one that torchrun started tells what is wrong
        elif debug or not _is_for_the_user(error):
            traceback.print_exc()
        else:
            print(f"error: {_message(error)}", file=sys.stderr)
    code = code if isinstance(code, int) else 0
    if processes.started_by_torchrun():
        processes.leave(code)
    sys.exit(code)


def _is_for_the_user(error: Exception) -> bool:
    """Ours, the parser's about a wrong word (no public class to name), or a file's own."""
    if isinstance(error, OSError):
        return error.filename is not None
    return isinstance(error, RwkvEdgeError) or hasattr(error, "format_message")


def _message(error: Exception) -> str:
    if isinstance(error, RwkvEdgeError):
        return str(error)
    if isinstance(error, OSError):  # of a folder that one may not enter, for instance
        return f"{error.filename}: {error.strerror}"
    text = " ".join(error.format_message().split())  # type: ignore[attr-defined]
    context = getattr(error, "ctx", None)
    command = context.command_path if context is not None else "rwkv-edge"
    return f"{text or 'a command is missing'}; see {command} --help".replace(".;", ";")
