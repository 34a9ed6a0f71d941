from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from rwkv_edge.doctor import Check, Finding, examine, finding

GOOD = Finding("first", "ok", "grün")


def good() -> Iterator[Finding]:
    yield GOOD


def breaks() -> Iterator[Finding]:
    yield GOOD
    raise ValueError("the tea is cold\nand more")


def dies() -> Iterator[Finding]:
    print("noise of a library")
    yield GOOD
    os.kill(os.getpid(), signal.SIGSEGV)


def hangs() -> Iterator[Finding]:
    yield GOOD
    signal.pause()


def echo(path: Path) -> Iterator[Finding]:
    yield Finding("path", "ok", f"{type(path).__name__} {path}")


@pytest.fixture(autouse=True)
def _children_find_this_module(monkeypatch: pytest.MonkeyPatch) -> None:
    root = str(Path(__file__).parents[2])
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([root, os.environ.get("PYTHONPATH", "")]))


@pytest.mark.parametrize("isolated", [False, True])
def test_a_check_that_fails_hides_nothing(isolated: bool) -> None:
    checks = [Check("Broken", breaks, isolated=isolated), Check("Good", good, isolated=isolated)]
    (section,) = examine([("Section", checks)])
    assert section.name == "Section"
    before, failure, after = section.findings
    assert before == after == GOOD
    assert (failure.name, failure.status) == ("Broken", "problem")
    assert "ValueError: the tea is cold" in failure.reason or failure.reason.endswith("and more")
    assert "\n" not in failure.reason
    assert failure.mend


def test_a_check_that_kills_its_process() -> None:
    before, failure = finding.run_check(Check("Library", dies, isolated=True))
    assert before == GOOD
    assert failure.status == "problem"
    assert "SIGSEGV" in failure.reason


def test_a_check_that_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(finding, "_PATIENCE_S", 2.0)
    findings = finding.run_check(Check("Library", hangs, isolated=True))
    assert findings[-1].status == "problem"
    assert "no answer within 2 seconds" in findings[-1].reason


def test_arguments_cross_into_the_other_process(tmp_path: Path) -> None:
    (told,) = finding.run_check(Check("Echo", echo, (tmp_path / "ä b",), isolated=True))
    assert told.reason == f"{type(tmp_path).__name__} {tmp_path / 'ä b'}"
