"""The whole command, on this very machine and on ones with something broken."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from tests.conftest import has_cuda_gpu

ROOT = Path(__file__).parents[2]
SECTIONS = ["Machine", "GPU and TensorRT", "ONNX Runtime, OpenVINO and Torch", "Video and cameras"]


def run(folder: Path, *words: str, before: Path | None = None) -> subprocess.CompletedProcess[str]:
    paths = [str(path) for path in (before, ROOT) if path is not None]
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(paths),
        "XDG_CACHE_HOME": str(folder / "cache"),
    }
    command = [sys.executable, "-m", "rwkv_edge", "doctor", *words]
    return subprocess.run(
        command, capture_output=True, text=True, cwd=folder, env=environment, check=False
    )


def test_this_machine(tmp_path: Path) -> None:
    done = run(tmp_path, "--json", "page.json")
    page = json.loads((tmp_path / "page.json").read_text())
    assert set(page) == {"rwkv_edge", "problems", "warnings", "sections"}
    assert [section["name"] for section in page["sections"]] == SECTIONS
    findings = [finding for section in page["sections"] for finding in section["findings"]]
    for finding in findings:
        assert set(finding) == {"name", "status", "reason", "mend"}
        assert finding["status"] in ("ok", "warning", "problem")
        assert finding["reason"]
        assert "\n" not in finding["reason"] + finding["mend"]
        assert finding["mend"] or finding["status"] == "ok"
        assert finding["reason"] in done.stdout
    statuses = [finding["status"] for finding in findings]
    assert page["problems"] == statuses.count("problem")
    assert done.returncode == (1 if page["problems"] else 0), done.stdout + done.stderr
    assert done.stderr == ""
    named = {finding["name"]: finding for finding in findings}
    assert named["CPUExecutionProvider"]["reason"] == "works"
    assert named["OpenCV"]["status"] in ("ok", "warning")
    if not has_cuda_gpu():
        assert named["GPU"]["reason"] == "no CUDA GPU: ONNX Runtime on the CPU is used"
        assert page["problems"] == 0
    assert not (tmp_path / "cache" / "rwkv-edge").exists(), "looking must not write"


def test_a_machine_where_opencv_cannot_be_loaded(tmp_path: Path) -> None:
    broken = tmp_path / "site"
    (broken / "cv2").mkdir(parents=True)
    (broken / "cv2" / "__init__.py").write_text(
        "raise ImportError('libGL.so.1: cannot open shared object file')\n"
    )
    done = run(tmp_path, "--json", "-", before=broken)
    page = json.loads(done.stdout)
    assert done.returncode == 1
    assert "Traceback" not in done.stdout + done.stderr
    named = {f["name"]: f for section in page["sections"] for f in section["findings"]}
    assert named["OpenCV"]["status"] == "problem"
    assert "libGL.so.1" in named["OpenCV"]["reason"]
    assert "libgl1" in named["OpenCV"]["mend"]
    for name in ("GPU", "CPUExecutionProvider", "Plugin", "Cache", "Torch"):
        assert named[name]["status"] == "ok", named[name]


def test_a_machine_where_a_library_kills_its_process(tmp_path: Path) -> None:
    broken = tmp_path / "site"
    (broken / "onnxruntime").mkdir(parents=True)
    (broken / "onnxruntime" / "__init__.py").write_text("import os\nos.abort()\n")
    done = run(tmp_path, before=broken)
    assert done.returncode == 1
    assert "Traceback" not in done.stdout + done.stderr
    (line,) = (line for line in done.stdout.splitlines() if "SIGABRT" in line)
    assert line.split()[0] == "problem"
    assert "no CUDA GPU" in done.stdout or has_cuda_gpu()
