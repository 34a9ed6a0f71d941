from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

from rwkv_edge import __version__
from rwkv_edge.cli import main
from rwkv_edge.cli.app import COMMANDS


def fails(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str]:
    """Run a command that must fail; return its exit code and its one line."""
    with pytest.raises(SystemExit) as caught:
        main(list(words))
    captured = capsys.readouterr()
    assert "Traceback" not in captured.err
    lines = [line for line in captured.err.splitlines() if line.strip()]
    assert lines[-1].lower().startswith("error:") or "error" in lines[-1].lower()
    return int(caught.value.code or 0), lines[-1]


NESTED = ("data list", "data fetch", "weights", "weights fetch", "plugin build", "plugin info")


@pytest.mark.parametrize("command", [*COMMANDS, *NESTED])
def test_help_has_an_example(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main([*command.split(), "--help"])
    assert caught.value.code == 0
    assert f"rwkv-edge {command}" in capsys.readouterr().out.split("Example")[1]


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--version"])
    assert capsys.readouterr().out.strip() == f"rwkv-edge {__version__}"


def test_a_folder_that_one_may_not_enter(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr("rwkv_edge.data.pairs.load_dataset", refuse)
    assert fails(capsys, "eval", "--data", "x") == (1, "error: x: Permission denied")


def test_usage_errors_exit_with_2(capsys: pytest.CaptureFixture[str]) -> None:
    assert fails(capsys, "fly")[0] == 2
    assert fails(capsys, "run", "--sauce", "x")[0] == 2
    assert fails(capsys, "run")[0] == 2


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["train"], "--data is missing"),
        (["train", "--resume", "--name", "none"], "no run to continue"),
        (["train", "--data", "x", "--lr", "-1"], "--lr -1: it must be above 0"),
        (["train", "--data", "x", "--lr", "1e300"], "--lr 1e+300: it must be above 0, at most 1"),
        (["train", "--data", "x", "--batch", "9" * 20], "it must lie between 1 and 4096"),
        (["export", "--batch", "9" * 20], "it must lie between 1 and 4096"),
        (["run", "--source", "x", "--imgsz", "160000"], "too large; at most 8192 x 8192"),
        (["train", "--data", "x", "--minutes", "0"], "--minutes 0: it must be above 0"),
        (["train", "--data", "x", "--minutes", "1", "--epochs", "2"], "exclude each other"),
        (
            ["train", "--data", "x", "--ema-decay", "1"],
            "--ema-decay 1: it must be 0 or more, below 1",
        ),
        (
            ["train", "--data", "x", "--without", "smoke"],
            "--without smoke: choose from flip",
        ),
        (
            ["train", "--data", "x", "--teacher", "tiny", "--teacher-share", "2"],
            "--teacher-share 2: it must lie between 0 and 1",
        ),
        (
            ["train", "--data", "x", "--teacher-share", "0.3"],
            "--teacher-share: no --teacher is given",
        ),
        (
            ["train", "--data", "x", "--teacher-preprocess", "rgb"],
            "--teacher-preprocess: no --teacher is given",
        ),
        (
            ["train", "--data", "x", "--teacher", "tiny", "--teacher-preprocess", "rgb"],
            "--teacher-preprocess is for ONNX files, not for tiny",
        ),
        (["plugin", "build", "--torch", "--arch", "87", "--output", "x"], "--torch takes no"),
        (["export", "--imgsz", "100"], "100 is not a positive multiple of 16; try 96"),
        (["export", "--imgsz", "big"], "give SIDE or HEIGHTxWIDTH"),
        (["run", "--source", "x.png", "--backend", "abacus"], "choose one of auto"),
        (["run", "--source", "x.png", "--imgsz", "250"], "not a positive multiple of 16"),
        (["run", "--source", "x.png", "--name", "a/b"], "--name 'a/b': give a plain name"),
        (["train", "--data", "x", "--name", ".."], "--name '..': give a plain name"),
        (["export", "--variant", "huge"], "no variant 'huge'; choose one of tiny"),
        (["data"], "error: a command is missing; see rwkv-edge data --help"),
        (["data", "fetch"], "error: Missing argument 'name'; see rwkv-edge data fetch --help"),
    ],
)
def test_wrong_values(
    words: list[str],
    message: str,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    code, line = fails(capsys, *words)
    assert code == 2
    assert message in line


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["train", "--data", "none"], "none: no such data set"),
        (["train", "--data", "x", "--teacher", "none.onnx"], "none.onnx: no such file"),
        (["train", "--data", "x", "--teacher", "base"], "and give the file with --teacher FILE"),
        (["export", "--variant", "base"], "no weights ship for 'base'"),
        (["export", "--weights", "none.safetensors"], "none.safetensors: no such file"),
        (["export", "--variant", "small", "--weights", "{tiny}"], "holds a 'tiny', not a 'small'"),
        (["eval", "--data", "x", "--model", "none.onnx"], "no such"),
        (["export", "--weights", "none"], "none: no such file"),
    ],
)
def test_failures(
    words: list[str],
    message: str,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from rwkv_edge.weights import shipped_checkpoint

    monkeypatch.chdir(tmp_path)
    code, line = fails(capsys, *(w.format(tiny=shipped_checkpoint("tiny")) for w in words))
    assert code == 1
    assert message in line


def test_debug_shows_the_traceback(tmp_path: Path) -> None:
    words = [sys.executable, "-m", "rwkv_edge", "export", "--weights", "none.pth", "--debug"]
    result = subprocess.run(words, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert "Traceback" in result.stderr


def test_a_missing_extra_is_named(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda n, *a: None if n == "torch" else find(n, *a)
    )
    code, line = fails(capsys, "export")
    assert code == 1
    assert "pip install 'rwkv-edge[export]'" in line
