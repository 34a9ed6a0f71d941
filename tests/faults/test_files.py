"""Rows 9 to 12 and 18 to 21: files that are odd, damaged or hostile, by the real command line."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import subprocess
import sys
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto

from rwkv_edge.cli import main
from rwkv_edge.runtime.backend import TENSORRT_RTX, is_installed
from rwkv_edge.runtime.manifest import write_manifest
from rwkv_edge.runtime.plugin import LIBRARY
from rwkv_edge.weights import shipped_onnx
from tests.faults.processes import write_cheap_model, write_stream
from tests.runtime.test_manifest import MANIFEST
from tests.video.clips import write_clip

SQUARE = (120, 40, 60, 60)  # left, top, width, height


def pictures(height: int = 240, width: int = 320) -> list[np.ndarray]:
    """Dark, with a bright square at the upper right of the left half."""
    image = np.full((height, width, 3), 30, np.uint8)
    left, top, side, _ = SQUARE
    image[top : top + side, left : left + side] = 230
    return [image] * 10


def rwkv_edge(folder: Path, *words: str) -> tuple[int, str]:
    """Run the program as its users do; return the exit code and what it said at the end."""
    done = subprocess.run(
        [sys.executable, "-m", "rwkv_edge", *words],
        cwd=folder,
        env={**os.environ, "XDG_CACHE_HOME": str(folder / "cache"), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert "Traceback" not in done.stderr
    return done.returncode, (done.stderr.strip().splitlines() or [""])[-1]


@pytest.mark.parametrize(
    ("codec", "pixels", "size"),
    [
        ("ffv1", "yuv420p10le", (240, 320)),
        ("ffv1", "gray", (240, 320)),
        ("ffv1", "yuva420p", (240, 320)),
        ("ffv1", "bgra", (240, 320)),
        ("ffv1", "yuv444p", (241, 321)),
        ("interlaced", "yuv420p", (240, 320)),
    ],
)
def test_masks_lie_on_the_right_pixels(
    codec: str, pixels: str, size: tuple[int, int], work: Path
) -> None:
    clip = work / "clip.mkv"
    if codec == "interlaced":
        write_interlaced(clip)
    else:
        write_clip(clip, pictures(*size), codec=codec, pix_fmt=pixels)
    words = ["run", "--source", str(clip), "--model", str(work / "cheap.onnx"), "--no-save"]
    with pytest.raises(SystemExit) as caught:
        main([*words, "--json", str(work / "lines.jsonl")])
    assert caught.value.code == 0
    lines = [json.loads(line) for line in (work / "lines.jsonl").read_text().splitlines()]
    assert len(lines) == 10
    for line in lines:
        (found,) = line["components"]
        np.testing.assert_allclose(found["box"], SQUARE, atol=4)


def write_interlaced(path: Path) -> None:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=10)
        stream.height, stream.width, stream.pix_fmt = 240, 320, "yuv420p"
        stream.options = {"x264-params": "tff=1:interlaced=1"}
        stream.codec_context.time_base = Fraction(1, 10)
        for index, image in enumerate(pictures()):
            frame = av.VideoFrame.from_ndarray(image, format="bgr24")
            frame.pts, frame.time_base = index, Fraction(1, 10)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


@pytest.fixture(scope="session")
def hundred_frames(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_stream(tmp_path_factory.mktemp("clip") / "clip.mp4", 100 / 30, (96, 128), noise=60)


@pytest.mark.parametrize("damage", ["cut in half", "noise in the middle"])
@pytest.mark.parametrize("command", ["run", "stream"])
def test_a_damaged_video_is_counted(
    command: str, damage: str, hundred_frames: Path, work: Path
) -> None:
    clip = work / ("clip.mkv" if damage == "cut in half" else "clip.mp4")
    with av.open(str(hundred_frames)) as whole, av.open(str(clip), "w") as copy:
        stream = copy.add_stream_from_template(whole.streams.video[0])
        for packet in whole.demux(video=0):
            if packet.dts is not None:
                packet.stream = stream
                copy.mux(packet)
    content = bytearray(clip.read_bytes())
    third = len(content) // 3
    if damage == "cut in half":
        del content[len(content) // 2 :]
    else:
        content[third : 2 * third] = np.random.default_rng(0).bytes(third)
    clip.write_bytes(content)
    words = [command, "--source", clip.name, "--model", "cheap.onnx", "--json", "lines.jsonl"]
    code, said = rwkv_edge(work, *words, *(["--headless"] if command == "stream" else []))
    assert code == 1
    assert said.startswith(f"error: {clip.name}: ")
    about = "about " if clip.suffix == ".mkv" else ""
    count = int(said.split(": ")[2].split()[0])
    assert f" {count} of {about}100 frames could be read" in said
    assert 30 < count < 70
    if command == "run":  # what could be read was segmented
        assert len((work / "lines.jsonl").read_text().splitlines()) == count


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nothing.png", "the file is empty (0 bytes)"),
        ("random.png", "not an image"),
        ("random.mp4", "not a video that can be read"),
        ("tiny.png", "4 x 4 pixels is too small to segment"),
        ("huge.png", "8193 x 16 pixels is too large"),
        ("huge.mkv", "8194 x 16 pixels is too large"),
        ("nan.tif", "pixels of type float32"),
    ],
)
def test_what_is_no_picture_never_meets_the_model(name: str, message: str, work: Path) -> None:
    """The model is missing: whoever came as far as that would say so."""
    path = work / name
    if name.startswith("random"):
        path.write_bytes(np.random.default_rng(0).bytes(10_000))
    elif name == "huge.mkv":
        write_clip(path, [np.zeros((16, 8194, 3), np.uint8)], codec="ffv1")
    elif name == "nan.tif":
        cv2.imwrite(str(path), np.full((64, 64, 3), np.nan, np.float32))
    else:
        shape = {"nothing": (0, 0), "tiny": (4, 4), "huge": (16, 8193)}[path.stem]
        image = np.zeros((*shape, 3), np.uint8)
        path.write_bytes(cv2.imencode(".png", image)[1].tobytes() if image.size else b"")
    code, said = rwkv_edge(work, "run", "--source", name, "--model", "none.onnx")
    assert code == 1
    assert said.startswith("error: ")
    assert name in said
    assert message in said


class Hostile:
    """A pickle that runs a command when it is loaded."""

    def __init__(self, marker: Path) -> None:
        self._marker = marker

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, (f"touch '{self._marker}'",)


def hostile_model(folder: Path, name: str, marker: Path) -> Path:
    """Write a model file that is damaged, foreign, or does harm where it is trusted."""
    path = folder / name
    whole = shipped_onnx("tiny").read_bytes()
    if name == "half.onnx":
        path.write_bytes(whole[: len(whole) // 2])
    elif name == "noise.onnx":
        path.write_bytes(np.random.default_rng(0).bytes(4096) + whole[4096:])
    elif name == "pickle.pth":
        path.write_bytes(pickle.dumps({"state_dict": Hostile(marker)}))
    elif name in ("archive.pth", "pickle.safetensors"):
        torch.save({"state_dict": Hostile(marker)}, path)
    elif name in ("parent.onnx", "absolute.onnx"):
        (folder.parent / "secret.bin").write_bytes(bytes(4))
        model = onnx.load(write_cheap_model(path))
        scale = next(tensor for tensor in model.graph.initializer if tensor.name == "scale")
        scale.ClearField("raw_data")
        scale.data_location = TensorProto.EXTERNAL
        place = "../secret.bin" if name == "parent.onnx" else str(folder.parent / "secret.bin")
        scale.external_data.add(key="location", value=place)
        scale.external_data.add(key="length", value="4")
        path.write_bytes(model.SerializeToString())
    else:
        path.write_bytes(b"an engine of somebody else")
        hostile_library(folder, marker)
        if name == "borrowed.engine":  # with a manifest, but that of another engine
            if not is_installed(TENSORRT_RTX):
                pytest.skip("tensorrt-rtx is not installed: without it no engine is looked at")
            write_manifest(path, replace(MANIFEST, backend=TENSORRT_RTX, engine_sha256="0" * 64))
    return path


def hostile_library(folder: Path, marker: Path) -> None:
    """Put a plugin beside an engine that acts as soon as it is loaded."""
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler: no hostile library is made")
    source = folder / "hostile.c"
    source.write_text(
        "#include <stdlib.h>\n"
        f'__attribute__((constructor)) static void act(void) {{ system("touch {marker}"); }}\n'
    )
    words = ["-shared", "-fPIC", "-o", str(folder / LIBRARY), str(source)]
    subprocess.run([compiler, *words], check=True, capture_output=True)


@pytest.mark.parametrize(
    "name",
    [
        "half.onnx",
        "noise.onnx",
        "pickle.pth",
        "archive.pth",
        "pickle.safetensors",
        "parent.onnx",
        "absolute.onnx",
        "foreign.engine",
        "borrowed.engine",
    ],
)
def test_models_that_are_refused_by_name(name: str, work: Path) -> None:
    marker = work / "executed"
    folder = work / "inside"
    folder.mkdir()
    model = hostile_model(folder, name, marker)
    clip = write_stream(work / "clip.mp4", 0.5, (96, 128))
    is_checkpoint = model.suffix in (".pth", ".safetensors")
    given = ["--weights", str(model), "--variant", "tiny"]
    words = given if is_checkpoint else ["--model", str(model)]
    code, said = rwkv_edge(work, "stream", "--headless", "--source", clip.name, *words)
    assert code == 1
    assert said.startswith("error: ")
    assert name in said
    assert not marker.exists()


@pytest.mark.parametrize("kind", ["pickle", "library"])
def test_the_hostile_files_do_act_where_they_are_trusted(kind: str, work: Path) -> None:
    """Else it would prove nothing that they did not act above."""
    marker = work / "executed"
    if kind == "pickle":
        pickle.loads(hostile_model(work, "pickle.pth", marker).read_bytes())
    else:
        hostile_library(work, marker)
        words = "import ctypes, sys; ctypes.CDLL(sys.argv[1])"
        subprocess.run([sys.executable, "-c", words, str(work / LIBRARY)], check=True)
    assert marker.exists()
