from __future__ import annotations

from typing import Any

import pytest
import typer

from rwkv_edge.cli.ranges import Check, above, at_least, between
from rwkv_edge.errors import UsageError


def parsed(check: Check, *words: str) -> Any:
    """What a command gets of `--share`, which has this check."""

    def command(share: float | None = typer.Option(None, callback=check)) -> None:
        got.append(share)

    got: list[float | None] = []
    app = typer.Typer()
    app.command()(command)
    app(list(words), standalone_mode=False)
    return got[0]


@pytest.mark.parametrize(
    ("check", "inside", "outside", "words"),
    [
        (between(0, 0.95), ("0", "0.95"), ("-1e-9", "0.9500001"), "lie between 0 and 0.95"),
        (above(0), ("1e-9", "1e9"), ("0", "-1"), "be above 0"),
        (above(0, at_most=600), ("1e-9", "600"), ("0", "600.001"), "be above 0, at most 600"),
        (at_least(2), ("2", "1e9"), ("1.999999",), "be 2 or more"),
        (at_least(0, below=1), ("0", "0.999"), ("-0.001", "1"), "be 0 or more, below 1"),
    ],
)
def test_ranges(
    check: Check, inside: tuple[str, ...], outside: tuple[str, ...], words: str
) -> None:
    assert parsed(check) is None
    for value in inside:
        assert parsed(check, "--share", value) == float(value)
    for value in (*outside, "nan"):
        with pytest.raises(UsageError) as caught:
            parsed(check, "--share", value)
        assert str(caught.value) == f"--share {float(value):.15g}: it must {words}"
    for value in ("inf", "-inf"):
        with pytest.raises(UsageError, match=f"--share {value}: it must be a finite number"):
            parsed(check, "--share", value)


@pytest.mark.parametrize("check", [above(0), at_least(1)])
def test_an_open_end_takes_what_libraries_take(check: Check) -> None:
    assert parsed(check, "--share", "1e15") == 1e15
    with pytest.raises(UsageError, match=r"it must be at most 1e\+15$"):
        parsed(check, "--share", "1e300")


@pytest.mark.parametrize("check", [between(1, 8), at_least(1), above(0)])
def test_an_integer_larger_than_any_float(check: Check) -> None:
    def command(batch: int = typer.Option(1, callback=check)) -> None: ...

    app = typer.Typer()
    app.command()(command)
    with pytest.raises(UsageError, match=r"^--batch 10{400}: it must "):
        app(["--batch", str(10**400)], standalone_mode=False)
    with pytest.raises(UsageError, match=r"it must (be at most 2147483647|lie between 1 and 8)$"):
        app(["--batch", str(2**31)], standalone_mode=False)


def test_a_value_is_shown_as_it_was_typed() -> None:
    for typed in ("2", "1.0000001", "123456789"):
        with pytest.raises(UsageError, match=rf"^--share {typed}: "):
            parsed(between(0, 1), "--share", typed)
