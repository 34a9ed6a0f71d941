"""Kernels and engines on a GPU against references: all tests marked gpu, none of them skipped.

    python benchmarks/gpu/verify.py --output gpu-results

Forward and backward in float32, float16 and bfloat16 over odd and large sizes up to 16,384 tokens,
same bits every time, other streams, captured graphs, torch.compile, the training step, and
compute-sanitizer's memcheck, racecheck, initcheck and synccheck on small cases; engines, where
TensorRT or TensorRT-RTX is installed. A dry run takes the kernels' phases on the CPU instead.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from xml.etree import ElementTree

from measure import describe_gpu, make_parser, open_device

from rwkv_edge.runtime.backend import TENSORRT, TENSORRT_RTX

ROOT = Path(__file__).resolve().parents[2]
TESTS = ("tests", "-m", "gpu")
DRY_TESTS = ("tests/plugins/test_bi_wkv_phases.py", "-k", "cpu and golden")
SANITIZER_TEST = "test_compute_sanitizer"
MAY_SKIP = {
    **{
        f"test_engines_on_the_gpu[{name}]": f"{name} is not installed"
        for name in (TENSORRT, TENSORRT_RTX)
    },
    "tests.cli.test_config_file": "collection skipped",  # before Python 3.11, and no GPU in it
}
"""Tests of what a machine need not have, and the reason that they give."""


def run_tests(arguments: list[str], report: Path) -> tuple[int, dict[str, int]]:
    """Run pytest; return its status, and how many tests passed, failed, and were skipped.

    Those that may skip are printed and counted apart.
    """
    command = [sys.executable, "-m", "pytest", "-q", f"--junitxml={report}", *arguments]
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
    status = subprocess.run(command, cwd=ROOT, env=environment, check=False).returncode
    suite = ElementTree.parse(report).getroot().find("testsuite")
    total, failures, errors, skipped = (
        int(suite.get(key, "0")) if suite is not None else 0
        for key in ("tests", "failures", "errors", "skipped")
    )
    failed, allowed = failures + errors, 0
    for case in suite.iter("testcase") if suite is not None else ():
        name, reason = case.get("name", ""), case.find("skipped")
        if reason is not None and MAY_SKIP.get(name) == reason.get("message"):
            print(f"left out: {name}: {MAY_SKIP[name]}")
            allowed += 1
    passed = total - failed - skipped
    counts = {"passed": passed, "failed": failed, "skipped": skipped - allowed, "left out": allowed}
    return status, counts


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument(
        "--allow-missing", action="store_true", help="go on where there is no compute-sanitizer"
    )
    options = parser.parse_args()
    open_device(options.dry_run)
    arguments = list(DRY_TESTS if options.dry_run else TESTS)
    sanitizer = shutil.which("compute-sanitizer")
    if sanitizer is None and not options.dry_run:
        print("compute-sanitizer: not found; it comes with the CUDA toolkit", file=sys.stderr)
        if not options.allow_missing:
            sys.exit("error: memory was not checked; --allow-missing goes on without")
        arguments += ["-k", f"not {SANITIZER_TEST}"]
    with tempfile.TemporaryDirectory() as folder:
        status, counts = run_tests(arguments, Path(folder) / "junit.xml")
        print(counts)
        if options.dry_run:
            print("DRY RUN: verify.json is not written")
        else:
            options.output.mkdir(parents=True, exist_ok=True)
            report = {"machine": describe_gpu(), **counts, "sanitizer": sanitizer}
            (options.output / "verify.json").write_text(json.dumps(report, indent=2) + "\n")
    if status or counts["failed"] or counts["skipped"] or not counts["passed"]:
        sys.exit("error: not everything was checked and right; time nothing before it is")


if __name__ == "__main__":
    main()
