"""The C++ example: the same pixels as in Python; a program that compiles, links and refuses."""

from __future__ import annotations

import ctypes
import importlib.util
import platform
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from rwkv_edge.preprocess import Letterbox, to_input, to_mask
from rwkv_edge.runtime.onnxruntime import OnnxRuntimeRunner
from rwkv_edge.weights import shipped_onnx
from tests.conftest import has_cuda_gpu

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
EXAMPLES = ROOT / "plugins" / "examples"
STRICT = ["-std=c++17", "-Wall", "-Wextra", "-Werror"]

# OpenCV has forms of its own for ARM, which round a value between two now and then otherwise.
BYTE_ERROR = 0 if platform.machine() == "x86_64" else 1
PROBABILITY_ERROR = 2e-5

FRAMES = [
    (480, 640),
    (1080, 1920),
    (721, 1283),  # both odd
    (512, 512),  # a half
    (768, 768),  # a third
    (257, 255),  # hardly smaller
    (256, 256),  # as it is
    (97, 131),  # larger
    (128, 128),  # twice
    (8, 9),  # the smallest
    (8, 3000),  # one row high inside
    (1200, 301),
    (8, 257),  # narrower but no lower
]


@pytest.fixture(scope="module")
def library(gxx: str, tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    path = tmp_path_factory.mktemp("letterbox") / "libletterbox.so"
    command = [gxx, *STRICT, "-O2", "-ffp-contract=off", "-shared", "-fPIC", f"-I{EXAMPLES}"]
    subprocess.run([*command, "-o", str(path), str(HERE / "letterbox_cpu.cpp")], check=True)
    library = ctypes.CDLL(str(path))
    library.ppm_to_pgm.restype = ctypes.c_char_p
    library.mask.argtypes = [ctypes.c_void_p, *[ctypes.c_int] * 2, ctypes.c_float, ctypes.c_void_p]
    return library


def address(array: NDArray[Any]) -> ctypes.c_void_p:
    return ctypes.c_void_p(array.ctypes.data)


def draw(height: int, width: int) -> NDArray[np.uint8]:
    """Noise, every value in it, with plain black and white for what saturates."""
    image = np.random.default_rng(height * width).integers(0, 256, (height, width, 3), np.uint8)
    image[: height // 3, : width // 2] = 255
    image[height // 2 :, width // 2 :] = 0
    return image


def apply(library: ctypes.CDLL, frame: NDArray[np.uint8], size: tuple[int, int]) -> Any:
    result, box = np.empty((*size, 3), np.uint8), np.empty(4, np.int32)
    library.apply(address(frame), *frame.shape[:2], *size, address(result), address(box))
    return result, tuple(box.tolist())


def restore(
    library: ctypes.CDLL, probability: NDArray[np.float32], frame_size: tuple[int, int]
) -> NDArray[np.float32]:
    result = np.empty((len(probability), *frame_size), np.float32)
    for plane, whole in zip(probability, result, strict=True):
        library.restore(address(plane), *plane.shape, *frame_size, address(whole))
    return result


@pytest.mark.parametrize("size", [(256, 256), (192, 320), (352, 208)])
@pytest.mark.parametrize("frame_size", FRAMES)
def test_the_network_gets_the_same_pixels(
    library: ctypes.CDLL, frame_size: tuple[int, int], size: tuple[int, int]
) -> None:
    frame = draw(*frame_size)
    expected, letterbox = to_input(frame, size)
    got, box = apply(library, frame, size)
    assert box == (letterbox.top, letterbox.left, letterbox.height, letterbox.width)
    assert np.abs(got.astype(int) - expected[0]).max() <= BYTE_ERROR


@pytest.mark.parametrize("frame_size", FRAMES)
def test_the_frame_gets_the_same_probabilities(
    library: ctypes.CDLL, frame_size: tuple[int, int]
) -> None:
    probability = np.random.default_rng(0).random((2, 192, 256), np.float32)
    expected = Letterbox.fit(frame_size, (192, 256)).restore(probability)
    got = restore(library, probability, frame_size)
    assert np.abs(got - expected).max() <= PROBABILITY_ERROR


@pytest.mark.parametrize("classes", [1, 2, 4])
def test_masks(library: ctypes.CDLL, classes: int) -> None:
    rng = np.random.default_rng(classes)
    probability = rng.integers(0, 9, (classes, 1, 5000)).astype(np.float32) / 8  # many a tie
    got = np.empty((1, 5000), np.uint8)
    library.mask(address(probability), classes, 5000, 0.5, address(got))
    assert (got == to_mask(probability, 0.5)).all()
    assert set(np.unique(got)) == set(range(max(classes, 2)))


def test_a_whole_run_gives_the_same_mask(library: ctypes.CDLL) -> None:
    from rwkv_edge.data.synth import render_image

    frame = np.ascontiguousarray(render_image(3, (301, 411)).image)
    with OnnxRuntimeRunner(shipped_onnx("tiny")) as runner:
        size = runner.info.input_size
        expected_input, letterbox = to_input(frame, size)
        expected = letterbox.restore(runner(expected_input)[0])
        got = restore(library, runner(apply(library, frame, size)[0][None])[0], frame.shape[:2])
    masks = [to_mask(probability, 0.5) for probability in (expected, got)]
    assert masks[0].any()
    assert (masks[0] != masks[1]).mean() < 1e-4


def convert(
    library: ctypes.CDLL, source: Path, target: Path, size: tuple[int, int] = (1, 1)
) -> tuple[NDArray[np.uint8], str | None]:
    pixels, sides = np.zeros((*size, 3), np.uint8), np.zeros(2, np.int32)
    words = (str(source).encode(), str(target).encode())
    error = library.ppm_to_pgm(*words, address(pixels), address(sides))
    if error is None:
        assert tuple(sides) == size
    return pixels, error.decode() if error else None


def test_pictures_in_and_out(library: ctypes.CDLL, tmp_path: Path) -> None:
    image = draw(37, 53)
    cv2.imwrite(str(tmp_path / "a.ppm"), image)
    pixels, error = convert(library, tmp_path / "a.ppm", tmp_path / "a.pgm", (37, 53))
    assert error is None
    assert (pixels == image).all()
    written = cv2.imread(str(tmp_path / "a.pgm"), cv2.IMREAD_UNCHANGED)
    assert written is not None
    assert (written == image[:, :, 0]).all()
    assert {path.name for path in tmp_path.iterdir()} == {"a.ppm", "a.pgm"}


def test_comments_in_a_header(library: ctypes.CDLL, tmp_path: Path) -> None:
    image = draw(8, 9)
    header = b"P6 # from a scanner\n#\n# two # lines\n9\t 8\n# most\n255\n"
    (tmp_path / "a.ppm").write_bytes(header + image[:, :, ::-1].tobytes())
    pixels, error = convert(library, tmp_path / "a.ppm", tmp_path / "a.pgm", (8, 9))
    assert error is None
    assert (pixels == image).all()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "cannot be read"),
        (b"", "not a binary PPM; ffmpeg -i"),
        (b"P3\n9 9\n255\n", "not a binary PPM"),
        (b"\xff\xd8\xff\xe0JFIF", "not a binary PPM"),
        (b"P6\n9 9\n65535\n", "not 8 bits"),
        (b"P6\n9\n", "not 8 bits"),
        (b"P6\n9 9\n255\n" + bytes(242), "ends too early"),
        (b"P6\n7 9\n255\n" + bytes(189), "sides must be of 8 to 16384"),
        (b"P6\n99999999999999 9\n255\n", "not 8 bits|sides must be"),
        (b"P6\n-9 9\n255\n", "not 8 bits|sides must be"),
        (b"P6\n# no end", "not 8 bits|sides must be"),
    ],
)
def test_bad_pictures(
    library: ctypes.CDLL, content: bytes | None, message: str, tmp_path: Path
) -> None:
    if content is not None:
        (tmp_path / "bad.ppm").write_bytes(content)
    _, error = convert(library, tmp_path / "bad.ppm", tmp_path / "out.pgm")
    assert error is not None
    assert any(part in error for part in message.split("|")), error
    assert str(tmp_path / "bad.ppm") in error
    assert not (tmp_path / "out.pgm").exists()


def test_a_mask_that_cannot_be_written(library: ctypes.CDLL, tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "a.ppm"), draw(8, 8))
    (tmp_path / "taken").mkdir()
    for target in (tmp_path / "none" / "a.pgm", tmp_path / "taken"):
        _, error = convert(library, tmp_path / "a.ppm", target, (8, 8))
        assert error == f"{target}: cannot be written"
    assert {path.name for path in tmp_path.iterdir()} == {"a.ppm", "taken"}


def test_it_compiles(gxx: str, tensorrt_headers: Path, cuda_headers: Path) -> None:
    command = [gxx, *STRICT, "-fsyntax-only", "-isystem", str(tensorrt_headers)]
    command += ["-isystem", str(cuda_headers), str(EXAMPLES / "segment.cpp")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def segment(
    nvcc: str, gxx: str, tensorrt_headers: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """The program as CMake builds it, linked with TensorRT-RTX's library."""
    cmake = shutil.which("cmake")
    libraries = importlib.util.find_spec("tensorrt_rtx_libs")
    if cmake is None or libraries is None or libraries.origin is None:
        pytest.skip("no cmake, or no tensorrt-rtx: the example is not linked")
    root = tmp_path_factory.mktemp("tensorrt")
    (root / "include").symlink_to(tensorrt_headers)
    (root / "lib").mkdir()
    library = Path(libraries.origin).with_name("libtensorrt_rtx.so.1")
    for name in ("libtensorrt_rtx.so", "libtensorrt_rtx.so.1"):
        (root / "lib" / name).symlink_to(library)
    build = tmp_path_factory.mktemp("examples-build")
    options = [
        f"-DTENSORRT_ROOT={root}",
        "-DCMAKE_CUDA_ARCHITECTURES=86",
        "-DRWKV_EDGE_EXAMPLES=ON",
    ]
    for step in (
        [cmake, "-S", str(ROOT / "plugins"), "-B", str(build), *options],
        [cmake, "--build", str(build), "--target", "segment"],
    ):
        done = subprocess.run(step, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
    return build / "examples" / "segment"


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["a.engine", "a.ppm"],
        ["a.engine", "a.ppm", "a.pgm", "more"],
        ["a.engine", "a.ppm", "a.pgm", "--plugin"],
        ["a.engine", "a.ppm", "a.pgm", "--confidence", "1.5"],
        ["a.engine", "a.ppm", "a.pgm", "--confidence", "nan"],
        ["a.engine", "a.ppm", "a.pgm", "--confidence", ""],
        ["--help"],
    ],
)
def test_wrong_usage(segment: Path, words: list[str]) -> None:
    done = subprocess.run([segment, *words], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("usage: segment ENGINE PICTURE.ppm MASK.pgm")
    assert done.stdout == ""


def test_failures_are_one_line(segment: Path, tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "a.ppm"), draw(20, 30))
    later = "none.engine: cannot be read" if has_cuda_gpu() else "no CUDA GPU can be used: "
    for picture, message in (("none.ppm", "none.ppm: cannot be read\n"), ("a.ppm", later)):
        words = [segment, "none.engine", picture, "a.pgm"]
        done = subprocess.run(words, capture_output=True, text=True, cwd=tmp_path, check=False)
        assert done.returncode == 1
        assert done.stdout == ""
        assert done.stderr.startswith(f"error: {message}")
        assert done.stderr.count("\n") == 1
    assert not (tmp_path / "a.pgm").exists()


def test_the_onnx_file_for_trtexec(tmp_path: Path) -> None:
    """The command of plugins/examples/README.md, run as it stands there."""
    import onnx

    text = (EXAMPLES / "README.md").read_text()
    command = text.split("python - <<'END'\n")[1].split("    END\n")[0]
    command = textwrap.dedent(command)
    subprocess.run([sys.executable, "-c", command], cwd=tmp_path, check=True)
    model = onnx.load(tmp_path / "tiny-tensorrt.onnx")
    assert [node.op_type for node in model.graph.node if "image" in node.input] == ["Cast"]
    assert sum(node.op_type == "BiWKV" for node in model.graph.node) == 4
    assert len(model.functions) == 0
