"""The command line: `main` turns our errors into one line and an exit code."""

from __future__ import annotations

import errno
import os
import sys
import traceback

from rwkv_edge.cli import processes
from rwkv_edge.errors import RwkvEdgeError

_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)
"""What writing meets, which names no file."""


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
        sys.stdout.flush()  # a full disk behind it is met here rather than when Python ends
    except BrokenPipeError:
        # the reader of our output went away, as `| head` does
        _drop_output()
        code = 1
    except Exception as error:
        code = getattr(error, "exit_code", 1)
        if not processes.is_first_to_fail():
            pass  # another one that torchrun started tells what is wrong
        elif debug or not _is_for_the_user(error):
            traceback.print_exc()
        else:
            print(f"error: {_message(error)}", file=sys.stderr)
        try:
            sys.stdout.flush()
        except OSError:  # said already
            _drop_output()
    code = code if isinstance(code, int) else 0
    if processes.started_by_torchrun():
        processes.leave(code)
    sys.exit(code)


def _drop_output() -> None:
    """Send what is left where it does no harm: Python writes it when it ends."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _is_for_the_user(error: Exception) -> bool:
    """Ours, the parser's about a wrong word (no public class to name), or a file's own."""
    if isinstance(error, OSError):
        return error.filename is not None or error.errno in _DISK
    return isinstance(error, RwkvEdgeError) or hasattr(error, "format_message")


def _message(error: Exception) -> str:
    if isinstance(error, RwkvEdgeError):
        return str(error)
    if isinstance(error, OSError):  # of a folder that one may not enter, for instance
        where = error.filename or "standard output, or a file being written"
        return f"{where}: {error.strerror}"
    text = " ".join(error.format_message().split())  # type: ignore[attr-defined]
    context = getattr(error, "ctx", None)
    command = context.command_path if context is not None else "rwkv-edge"
    return f"{text or 'a command is missing'}; see {command} --help".replace(".;", ";")
