from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.test_cli import fails


@pytest.mark.parametrize(
    ("command", "options"),
    [
        ("eval --data none", "--json"),
        ("compare --data none --a tiny --b tiny", "--json"),
        ("robustness --data none", "--json"),
        ("benchmark", "--json --csv"),
        ("estimate", "--json --csv"),
        ("doctor", "--json"),
        ("run --source none", "--json"),
        ("stream --source none", "--json --summary"),
        ("export", "--output"),
        ("build", "--output"),
        ("split --data none", "--output"),
    ],
)
def test_refused_before_any_work(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    command: str,
    options: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("folder").mkdir()
    Path("file").write_text("in the way")
    for option in options.split():
        refused = (2, f"error: {option} folder: is a folder; name a file in it")
        assert fails(capsys, *command.split(), option, "folder") == refused
        code, line = fails(capsys, *command.split(), option, "file/a")
        assert code == 1
        assert line.startswith("error: cannot write into file: Not a directory")
    assert sorted(path.name for path in Path().rglob("*")) == ["file", "folder"]
