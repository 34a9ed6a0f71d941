from __future__ import annotations

import json
import os
import pty
import resource
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from rwkv_edge.cli import main
from tests.video.clips import read_clip, write_clip

SIDE = 64
STAGES = ["capture", "preprocess", "inference", "postprocess", "draw", "write"]


def save_model(path: Path, divisor: float = 255.0) -> Path:
    """Write an ONNX model whose probability is the brightness: a square is found where it is."""
    nodes = [
        helper.make_node("Cast", ["image"], ["float"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["float", "channels"], ["grey"]),
        helper.make_node("Transpose", ["grey"], ["planes"], perm=[0, 3, 1, 2]),
        helper.make_node("Div", ["planes", "divisor"], ["probability"]),
    ]
    graph = helper.make_graph(
        nodes,
        "brightness",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, [1, SIDE, SIDE, 3])],
        [helper.make_tensor_value_info("probability", TensorProto.FLOAT, [1, 1, SIDE, SIDE])],
        [
            numpy_helper.from_array(np.array([3]), "channels"),
            numpy_helper.from_array(np.array(divisor, np.float32), "divisor"),
        ],
    )
    opset = helper.make_opsetid("", 18)
    onnx.save(helper.make_model(graph, opset_imports=[opset], ir_version=9), path)
    return path


def square(index: int, size: tuple[int, int] = (96, 128)) -> np.ndarray:
    """A dark picture with a white square of 32 pixels at row 40, that moves to the right."""
    image = np.full((*size, 3), 20, np.uint8)
    image[40:72, 8 + 4 * index : 40 + 4 * index] = 255
    return image


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(save_model(tmp_path_factory.mktemp("model") / "brightness.onnx"))


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    return write_clip(tmp_path / "clip.mp4", [square(index) for index in range(20)])


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def run(*words: object) -> int:
    with pytest.raises(SystemExit) as caught:
        main(["run", *map(str, words)])
    return int(caught.value.code or 0)


def start(*words: object, **options: Any) -> subprocess.Popen[str]:
    """Run the command in a process of its own, installed or not."""
    root = str(Path(__file__).parents[2])
    return subprocess.Popen(
        [sys.executable, "-m", "rwkv_edge", "run", *map(str, words)],
        text=True,
        env={**os.environ, "PYTHONPATH": root},
        **{
            "stdout": subprocess.PIPE,
            "stderr": subprocess.PIPE,
            # a shell starts background jobs with Ctrl-C ignored, and children would inherit that
            "preexec_fn": lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
            **options,
        },
    )


def json_lines(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def test_video(clip: Path, model: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--source", clip, "--model", model, "--save-masks", "--json", "frames.jsonl") == 0
    folder = Path("runs/run/exp")
    assert sorted(path.name for path in folder.iterdir()) == [
        "masks",
        "overlay.mp4",
        "summary.json",
    ]
    frames = read_clip(folder / "overlay.mp4")
    assert [time_s for time_s, _ in frames] == pytest.approx([n / 10 for n in range(20)], abs=1e-3)
    assert frames[0][1].shape == (192, 256, 3)  # 128 pixels are too narrow for the notice

    lines = json_lines(Path("frames.jsonl").read_text())
    assert [line["frame"] for line in lines] == list(range(20))
    for index, line in enumerate(lines):
        assert line["time_s"] == pytest.approx(index / 10, abs=1e-3)
        assert list(line["latency_ms"]) == STAGES
        (component,) = line["components"]
        np.testing.assert_allclose(component["box"], (8 + 4 * index, 40, 32, 32), atol=3)
        assert 0.9 < component["confidence"] <= 1
        mask = cv2.imread(str(folder / "masks" / f"{index:06d}.png"), cv2.IMREAD_UNCHANGED)
        assert np.count_nonzero(mask == 255) == component["area"]
        assert mask[56, 24 + 4 * index] == 255

    summary = json.loads((folder / "summary.json").read_text())
    assert summary["frames"] == summary["frames_with_finding"] == 20
    assert summary["interrupted"] is False
    assert "onnxruntime" in summary["backend"]
    assert list(summary["latency_ms"]) == [*STAGES, "total"]
    assert list(summary["latency_ms"]["total"]) == ["p50", "p90", "p99"]
    printed = capsys.readouterr()
    for word in ("p50", "p90", "p99", "inference", "total", "20 with a finding", str(folder)):
        assert word in printed.out


def test_runs_are_numbered(clip: Path, model: str) -> None:
    for _ in range(2):
        assert run("--source", clip, "--model", model, "--max-frames", 1) == 0
    assert sorted(path.name for path in Path("runs/run").iterdir()) == ["exp", "exp2"]


def test_stride_and_max_frames(clip: Path, model: str) -> None:
    words = ("--vid-stride", 3, "--max-frames", 4, "--json", "a.jsonl", "--output", "out")
    assert run("--source", clip, "--model", model, *words) == 0
    lines = json_lines(Path("a.jsonl").read_text())
    assert [line["frame"] for line in lines] == [0, 3, 6, 9]
    assert len(read_clip(Path("out/overlay.mp4"))) == 4


def test_folder_of_images(model: str, capsys: pytest.CaptureFixture[str]) -> None:
    Path("images").mkdir()
    for index in range(3):
        cv2.imwrite(f"images/{index}.png", square(index, size=(96 + 10 * index, 300)))
    Path("images/broken.png").write_text("no picture")
    words = ("--output", "out", "--save-masks", "--json", "-")
    assert run("--source", "images", "--model", model, *words) == 1
    assert sorted(path.name for path in Path("out/overlays").iterdir()) == [
        "0.jpg",
        "1.jpg",
        "2.jpg",
    ]
    assert cv2.imread("out/overlays/1.jpg").shape == (106, 300, 3)
    assert cv2.imread("out/masks/2.png", cv2.IMREAD_UNCHANGED).shape == (116, 300)
    printed = capsys.readouterr()
    assert [line["name"] for line in json_lines(printed.out)] == ["0", "1", "2"]
    assert "warning: images/broken.png" in printed.err
    assert "error: 3 of 4 images could be read" in printed.err
    assert len(json.loads(Path("out/summary.json").read_text())["problems"]) == 2


def test_nothing_is_saved_on_request(clip: Path, model: str) -> None:
    assert run("--source", clip, "--model", model, "--no-save", "--max-frames", 1) == 0
    assert [path.name for path in Path().iterdir()] == ["clip.mp4"]


def test_json_lines_alone_on_standard_output(clip: Path, model: str) -> None:
    # with a terminal on standard error the progress bar is live, and must not swallow the lines
    ours, theirs = pty.openpty()
    process = start("--source", clip, "--model", model, "--json", "-", stderr=theirs)
    os.close(theirs)
    output, _ = process.communicate()
    assert [line["frame"] for line in json_lines(output)] == list(range(20))
    assert b"segmenting" in os.read(ours, 100_000)
    os.close(ours)


def test_invalid_output_is_withheld_and_fails(
    clip: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = save_model(tmp_path / "broken.onnx", divisor=0.0)
    words = ("--model", broken, "--json", "a.jsonl", "--output", "out", "--save-masks")
    assert run("--source", clip, *words) == 1
    assert "error: the network's output was invalid on every frame" in capsys.readouterr().err
    lines = json_lines(Path("a.jsonl").read_text())
    assert len(lines) == 20
    assert not any(line["valid"] or line["components"] for line in lines)
    assert list(Path("out/masks").iterdir()) == []


@pytest.mark.parametrize(("how", "code"), [(signal.SIGINT, 130), (signal.SIGKILL, -signal.SIGKILL)])
def test_a_stopped_run_leaves_a_playable_file(
    how: signal.Signals, code: int, model: str, tmp_path: Path
) -> None:
    noise = np.random.default_rng(0).integers(0, 80, (4, 48, 64, 3), np.uint8)
    clip = write_clip(tmp_path / "long.mp4", list(noise) * 300)
    process = start("--source", clip, "--model", model, "--output", "out", "--json", "-")
    assert process.stdout is not None
    lines = []
    for line in process.stdout:
        lines.append(line)
        if len(lines) == 60:
            process.send_signal(how)
    assert process.stderr is not None
    errors = process.stderr.read()
    assert process.wait() == code
    assert len(lines) < 1100  # it was stopped, not done
    whole = [line for line in lines if line.endswith("\n")]
    assert len(json_lines("".join(whole))) >= len(lines) - 1
    played = len(read_clip(Path("out/overlay.mp4")))
    if how is signal.SIGINT:
        assert played in (len(lines), len(lines) + 1)
        assert "interrupted" in errors
        assert "Traceback" not in errors
        summary = json.loads(Path("out/summary.json").read_text())
        assert summary["interrupted"] is True
        assert summary["frames"] == len(lines)
    else:
        assert played >= 40


def test_full_disk(model: str, tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (100, 96, 128, 3), np.uint8)
    clip = write_clip(tmp_path / "long.mp4", list(noise))
    process = start(
        "--source",
        clip,
        "--model",
        model,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000)),
    )
    _, errors = process.communicate()
    assert process.returncode == 1
    chosen, line = (line for line in errors.splitlines() if line.strip())
    assert chosen.startswith("backend: onnxruntime")
    assert line.startswith("error: cannot write runs/run/exp/overlay.mp4: File too large")


def bad_input(kind: str) -> Path:
    picture = cv2.imencode(".jpg", square(0))[1].tobytes()
    contents = {
        "truncated.jpg": picture[: len(picture) // 2],
        "text.png": b"I am no picture",
        "text.mp4": b"I am no video",
        "empty.png": b"",
        "empty.mp4": b"",
        "one.png": cv2.imencode(".png", square(0)[:1, :1])[1].tobytes(),
    }
    path = Path(kind)
    if kind == "folder":
        path.mkdir()
    elif kind in contents:
        path.write_bytes(contents[kind])
    return path


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("nowhere.mp4", "no such source: nowhere.mp4"),
        ("*.png", "no images in pattern *.png"),
        ("folder", "no images in folder folder"),
        ("truncated.jpg", "the file is truncated"),
        ("text.png", "not an image"),
        ("text.mp4", "not a video"),
        ("empty.png", "0 bytes"),
        ("empty.mp4", "0 bytes"),
        ("one.png", "too small"),
        ("97", "camera 97 cannot be opened"),
    ],
)
def test_bad_sources(kind: str, words: str, model: str, capfd: pytest.CaptureFixture[str]) -> None:
    source = bad_input(kind)
    before = sorted(Path().rglob("*"))
    assert run("--source", source, "--model", model) == 1
    assert words in only_line(capfd)
    assert sorted(Path().rglob("*")) == before  # no empty run is left behind


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("--conf", "2"),
        ("--conf", "nan"),
        ("--alpha", "-1"),
        ("--vid-stride", "0"),
        ("--max-frames", "0"),
        ("--output", "out.mp4"),
        ("--backend", "abacus"),
        ("--imgsz", "100"),
    ],
)
def test_wrong_values(
    option: str, value: str, clip: Path, model: str, capfd: pytest.CaptureFixture[str]
) -> None:
    assert run("--source", clip, "--model", model, option, value) == 2
    assert value in only_line(capfd)


def test_unwritable_output(clip: Path, model: str, capfd: pytest.CaptureFixture[str]) -> None:
    Path("file").touch()
    assert run("--source", clip, "--model", model, "--output", "file/out") == 1
    assert "cannot write into file/out" in only_line(capfd)


@pytest.mark.parametrize(
    "words", [("--json", "clip.mp4"), ("--output", "."), ("--output", "../images")]
)
def test_the_source_is_not_overwritten(
    words: tuple[str, str],
    clip: Path,
    model: str,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    source = "clip.mp4"
    if words[1] == ".":
        source = str(clip.rename("overlay.mp4"))
    elif words[1] == "../images":
        source = "../images/overlays"
        Path("../images/overlays").mkdir(parents=True)
        cv2.imwrite("../images/overlays/1.jpg", square(0))
    assert run("--source", source, "--model", model, *words) == 1
    assert "holds the source" in only_line(capfd)


def test_masks_of_a_data_set_are_not_overwritten(
    model: str, capfd: pytest.CaptureFixture[str]
) -> None:
    for folder in ("images", "masks"):
        Path("set", folder).mkdir(parents=True)
        cv2.imwrite(f"set/{folder}/1.png", square(0))
    before = Path("set/masks/1.png").read_bytes()
    words = ("--source", "set/images", "--model", model, "--save-masks", "--output")
    assert run(*words, "set") == 1
    assert only_line(capfd).startswith("error: set/masks holds files of another origin")
    assert Path("set/masks/1.png").read_bytes() == before
    for _ in range(2):  # a run's own masks may be written anew
        assert run(*words, "out") == 0


def test_no_display(
    clip: Path, model: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    assert run("--source", clip, "--model", model, "--show") == 1
    assert "--show" in only_line(capfd)
    assert not Path("runs").exists()


def test_shipped_weights(capsys: pytest.CaptureFixture[str]) -> None:
    cv2.imwrite("a.png", square(0))
    assert run("--source", "a.png", "--json", "-", "--output", "out") == 0
    (line,) = json_lines(capsys.readouterr().out)
    assert line["valid"] is True
    assert json.loads(Path("out/summary.json").read_text())["model"]["variant"] == "tiny"


def only_line(capfd: pytest.CaptureFixture[str]) -> str:
    lines = [line for line in capfd.readouterr().err.splitlines() if line.strip()]
    assert len(lines) == 1, lines
    assert lines[0].startswith("error: ")
    return lines[0]
