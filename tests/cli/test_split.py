from __future__ import annotations

from pathlib import Path

import pytest

from rwkv_edge.cli import main
from rwkv_edge.data.pairs import load_dataset
from tests.data.pictures import save_pair


@pytest.fixture(autouse=True)
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Ten sequences of three frames, in an otherwise empty folder."""
    monkeypatch.chdir(tmp_path)
    for sequence in range(10):
        for frame in range(3):
            save_pair(tmp_path / "data", f"seq{sequence}_{frame}")
    return Path("data")


def run(*words: str) -> int:
    with pytest.raises(SystemExit) as caught:
        main(["split", *words])
    assert isinstance(caught.value.code, int)
    return caught.value.code


def test_beside_the_folder(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--data", "data") == 0
    splits = load_dataset(Path("data.yaml")).splits
    assert {name: len(pairs) for name, pairs in splits.items()} == {
        "train": 24,
        "val": 3,
        "test": 3,
    }
    captured = capsys.readouterr()
    assert "80.0%" in captured.out
    assert "data.yaml" in captured.out
    assert not captured.err


@pytest.mark.parametrize("kind", ["regex", "csv"])
def test_groups(kind: str, capsys: pytest.CaptureFixture[str]) -> None:
    names = [path.name for path in Path("data/images").iterdir()]
    rows = "".join(f"{name},{name.split('_')[0]}\n" for name in names)
    Path("groups.csv").write_text("image,group\n" + rows)
    option = {"regex": r"^(seq\d+)_", "csv": "groups.csv"}[kind]
    assert run("--data", "data", f"--group-{kind}", option, "--output", "new/a.yaml") == 0
    splits = load_dataset(Path("new/a.yaml")).splits
    sequences = [{pair.name.split("_")[0] for pair in pairs} for pairs in splits.values()]
    assert sorted(map(len, sequences)) == [1, 1, 8]
    assert not sequences[0] & sequences[1]
    assert not sequences[0] & sequences[2]
    assert not sequences[1] & sequences[2]
    rows_shown = [line.split() for line in capsys.readouterr().out.splitlines() if "%" in line]
    assert [row[-2] for row in rows_shown] == ["8", "1", "1"]


def test_seed(capsys: pytest.CaptureFixture[str]) -> None:
    for name, seed in (("a", "1"), ("b", "1"), ("c", "2")):
        assert run("--data", "data", "--seed", seed, "--output", f"{name}.yaml") == 0
    a, b, c = (Path(f"{name}-train.txt").read_text() for name in "abc")
    assert a == b != c


def test_force() -> None:
    assert run("--data", "data") == 0
    assert run("--data", "data", "--fractions", "0.5,0,0.5") == 2
    assert "val" in load_dataset(Path("data.yaml")).splits
    assert run("--data", "data", "--fractions", "0.5,0,0.5", "--force") == 0
    assert list(load_dataset(Path("data.yaml")).splits) == ["train", "test"]


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        ("--data nothing", 1, "nothing: no such data set"),
        ("--data taken.yaml", 1, "taken.yaml: needs at least one of the keys"),
        ("--data whole", 1, "whole: is split already (train); give one folder"),
        ("--data data --fractions 1", 2, "fractions 1: give those of train, val and test"),
        ("--data data --fractions a,b,c", 2, "--fractions a,b,c: give three numbers"),
        ("--data data --fractions 0.8,0.3,-0.1", 2, "fractions 0.8,0.3,-0.1: give those of"),
        ("--data data --group-regex ([", 2, "'([' is not a regular expression"),
        ("--data data --group-regex x --group-csv y", 2, "--group-regex and --group-csv exclude"),
        ("--data data --group-csv none.csv", 1, "none.csv: No such file"),
        ("--data data --group-regex ^(seq)", 1, "1 groups cannot fill 3 splits"),
        ("--data data --output a.txt", 2, "--output a.txt: must end in .yaml"),
        ("--data data --output taken.yaml", 2, "taken.yaml exists; add --force"),
        ("--data data --output taken.yaml/a.yaml", 1, "cannot write into taken.yaml: Not a dir"),
        ("--data data --output other.yaml", 2, "other-train.txt exists; add --force"),
        ("--data data --output blocked.yaml --force", 2, "blocked-test.txt is a folder; choose"),
    ],
)
def test_refused_in_one_line(
    capsys: pytest.CaptureFixture[str], words: str, code: int, message: str
) -> None:
    Path("taken.yaml").write_text("names: [x]")
    Path("other-train.txt").write_text("of another program")
    Path("blocked-test.txt").mkdir()
    save_pair(Path("whole/train"), "a")
    before = sorted(Path().rglob("*"))
    assert run(*words.split()) == code
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: {message}")
    assert sorted(Path().rglob("*")) == before


def test_images_without_group_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--data", "data", "--group-regex", "^(seq[0-8])_") == 1
    first, *problems = capsys.readouterr().err.splitlines()
    assert first == "error: data/images: 3 problems"
    assert all("seq9" in problem for problem in problems)
