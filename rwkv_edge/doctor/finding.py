"""One line of the doctor's page, and running the checks so that none can spoil another."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Status = Literal["ok", "warning", "problem"]
_PATIENCE_S = 30.0
"""A library that has not answered by then hangs; starting cold from an SD card is slow."""


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at."""

    name: str
    status: Status
    reason: str
    """What was found, in one line."""
    mend: str = ""
    """A command, or what to do; empty where nothing needs to be done."""


@dataclass(frozen=True)
class Check:
    """A function that yields findings."""

    name: str
    """Stands in the finding that says that the check itself failed."""
    function: Callable[..., Iterator[Finding]]
    arguments: tuple[Path, ...] = ()
    isolated: bool = False
    """Runs in a process of its own, for libraries that may kill, hang or write to the terminal."""


@dataclass(frozen=True)
class Section:
    """What belongs together on the page."""

    name: str
    findings: tuple[Finding, ...]


def examine(plan: Sequence[tuple[str, Sequence[Check]]]) -> list[Section]:
    """Run all checks side by side; the order of the sections and of their findings is the plan's.

    Args:
        plan: names of sections, each with its checks.
    """
    with ThreadPoolExecutor(max_workers=8) as pool:
        running = [
            (name, [pool.submit(run_check, check) for check in checks]) for name, checks in plan
        ]
        return [
            Section(name, tuple(finding for future in futures for finding in future.result()))
            for name, futures in running
        ]


def run_check(check: Check) -> list[Finding]:
    """Return a check's findings; if it fails on the way, those until then and one that says so."""
    findings = []
    try:
        for finding in _answers(check) if check.isolated else check.function(*check.arguments):
            findings.append(finding)
    except Exception as error:  # whatever it is, the other checks go on
        reason = (str(error).strip().splitlines() or ["no reason given"])[0]
        findings.append(_failed(check, f"{type(error).__name__}: {reason}"))
    return findings


def _answers(check: Check) -> Iterator[Finding]:
    """Run the check in a process of its own; what it said before it died counts."""
    place = (check.function.__module__, check.function.__qualname__)
    words = [sys.executable, "-m", "rwkv_edge.doctor", *place, *map(str, check.arguments)]
    try:
        done = subprocess.run(words, capture_output=True, timeout=_PATIENCE_S, check=False)
        out, trouble = done.stdout, ""
        if done.returncode < 0:
            trouble = f"it was ended by {signal.Signals(-done.returncode).name}"
        elif done.returncode:
            trouble = (done.stderr.decode(errors="replace").strip().splitlines() or ["no reason"])[
                -1
            ]
    except subprocess.TimeoutExpired as error:
        out, trouble = error.stdout or b"", f"no answer within {_PATIENCE_S:.0f} seconds"
    for line in out.decode().splitlines():
        yield Finding(**json.loads(line))
    if trouble:
        yield _failed(check, trouble)


def _failed(check: Check, reason: str) -> Finding:
    mend = "reinstall what is named here, or report it with the output of rwkv-edge doctor --json -"
    return Finding(check.name, "problem", f"the check itself failed: {reason}", mend)
