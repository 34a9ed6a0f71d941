from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from rwkv_edge.cli import main
from rwkv_edge.data.pairs import find_pairs, read_pair


@pytest.fixture(autouse=True)
def empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def run(words: str) -> int:
    with pytest.raises(SystemExit) as caught:
        main(["synth", *words.split()])
    assert isinstance(caught.value.code, int)
    return caught.value.code


def test_images(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--output out --count 3 --size 32x48 --polyps 1 --seed 5") == 0
    pairs = find_pairs(Path("out"))
    assert [pair.name for pair in pairs] == ["000000.jpg", "000001.jpg", "000002.jpg"]
    for pair in pairs:
        image, mask = read_pair(pair)
        assert image.shape == (32, 48, 3)
        assert mask.any()
    assert "wrote 3 images with masks to out" in capsys.readouterr().out


def test_seed() -> None:
    for folder, seed in (("a", 1), ("b", 1), ("c", 2)):
        assert run(f"--output {folder} --count 1 --size 32 --seed {seed}") == 0
    a, b, c = (Path(folder, "images/000000.jpg").read_bytes() for folder in "abc")
    assert a == b != c


def test_clip() -> None:
    assert run("--output out --clip 0.6 --fps 10 --size 64 --polyps 1") == 0
    masks = sorted(Path("out/masks").iterdir())
    assert [path.name for path in masks] == [f"{index:06d}.png" for index in range(6)]
    video = cv2.VideoCapture("out/clip.mp4")
    frames = []
    while (frame := video.read()[1]) is not None:
        frames.append(frame)
    assert np.shape(frames) == (6, 64, 64, 3)
    assert video.get(cv2.CAP_PROP_FPS) == pytest.approx(10)


def test_force_removes_what_it_wrote_and_nothing_else(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run("--output out --count 2 --size 32") == 0
    Path("out/notes.txt").write_text("mine")
    assert run("--output out --count 1 --size 32") == 1
    assert "error: out is not empty: add --force, or choose another" in capsys.readouterr().err
    assert len(find_pairs(Path("out"))) == 2
    assert run("--output out --count 1 --size 32 --force") == 0
    assert len(find_pairs(Path("out"))) == 1
    assert Path("out/notes.txt").read_text() == "mine"


def test_force_leaves_pictures_that_it_did_not_write(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--output out --count 2 --size 32 --seed 3") == 0
    assert json.loads(Path("out/synth.json").read_text()) == {"clip": False, "count": 2, "seed": 3}
    mine = [Path("out", name) for name in ("images/000007.jpg", "masks/000007.png", "clip.mp4")]
    for path in mine:
        path.write_text("mine")
    assert run("--output out --count 1 --size 32 --force") == 0
    assert all(path.read_text() == "mine" for path in mine)
    assert not Path("out/images/000001.jpg").exists()
    before = Path("out/images/000000.jpg").read_bytes()
    for words in ("--count 8", "--clip 0.1"):
        assert run(f"--output out {words} --size 32 --seed 4 --force") == 1
        (line,) = capsys.readouterr().err.splitlines()
        assert "was not written by synth and would be replaced: move it away" in line
    assert all(path.read_text() == "mine" for path in mine)
    assert Path("out/images/000000.jpg").read_bytes() == before


def test_force_from_clip_to_images() -> None:
    assert run("--output out --clip 0.3 --fps 10 --size 32") == 0
    assert run("--output out --count 1 --size 32 --force") == 0
    assert len(find_pairs(Path("out"))) == 1
    assert not Path("out/clip.mp4").exists()


@pytest.mark.parametrize("record", [None, "", "[]", '{"count": "x", "clip": false}', "\0"])
def test_force_without_a_record(capsys: pytest.CaptureFixture[str], record: str | None) -> None:
    """A folder of someone else's, whose pictures are numbered as synth's are."""
    Path("out/images").mkdir(parents=True)
    Path("out/images/000000.jpg").write_text("mine")
    if record is not None:
        Path("out/synth.json").write_text(record)
    assert run("--output out --count 1 --size 32 --force") == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: out has no synth.json that says what synth wrote there")
    assert Path("out/images/000000.jpg").read_text() == "mine"


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        ("--output out --size x9", 2, "--size x9: give SIDE or HEIGHTxWIDTH"),
        ("--output out --size 1x2x3", 2, "--size 1x2x3: give SIDE or HEIGHTxWIDTH"),
        ("--output out --size 8", 2, "an image must be at least 32 pixels each way"),
        ("--output out --size 160000", 2, "an image has at most 8192 pixels each way"),
        ("--output out --count 0", 2, "--count 0: it must be 1 or more"),
        ("--output out --seed -1", 2, "the seed must not be negative"),
        ("--output out --polyps 9", 2, "a scene holds 0 to 3 polyps"),
        ("--output out --clip 0", 2, "--clip 0: it must be above 0, at most 600"),
        ("--output out --clip nan", 2, "--clip nan: it must be above 0, at most 600"),
        ("--output out --clip 1 --fps 0", 2, "--fps 0: it must lie between 1 and 240"),
        ("--output out --clip 1 --count 5", 2, "--clip and --count exclude each other"),
        ("--output file", 1, "cannot write into file: Not a directory"),
        ("--output file/out", 1, "cannot write into file/out: Not a directory"),
    ],
)
def test_refused_in_one_line(
    capsys: pytest.CaptureFixture[str], words: str, code: int, message: str
) -> None:
    Path("file").write_text("in the way")
    assert run(words) == code
    captured = capsys.readouterr()
    (line,) = captured.err.splitlines()
    assert line.startswith(f"error: {message}")
    assert not captured.out
    assert [path.name for path in Path().iterdir()] == ["file"]
