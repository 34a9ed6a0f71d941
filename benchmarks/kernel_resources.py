#!/usr/bin/env python3
"""What our kernels cost before they run: registers, shared memory, spills, exponentials.

    python benchmarks/kernel_resources.py [--arch sm_87] [--all]

Compiles plugins/bi_wkv and plugins/shift_mix and, beside them, a plain kernel of two scans with
running maxima, and reads ptxas's report and the machine code. No GPU is needed; nvcc and cuobjdump
are (the latter also from pip install nvidia-cuda-cuobjdump nvidia-cuda-nvdisasm). MUFU.EX2 is the
exponential of the special-function unit, 16 a clock and SM; a "token" here is one token
of one channel. ShiftMix takes no exponential.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sysconfig
import tempfile
from collections import Counter, defaultdict
from dataclasses import dataclass
from pathlib import Path

PLUGINS = Path(__file__).resolve().parents[1] / "plugins"
PLAIN = Path(__file__).with_name("plain_two_scans.cu")
THREADS, SEGMENT, CHANNEL_CONSTANTS = 256, 8, 5  # bi_wkv_tile.h, bi_wkv_scan.h
REGISTERS_A_SM, THREADS_A_SM, SHARED_A_SM = 65536, 1536, 164 * 1024  # sm_87


@dataclass
class Kernel:
    """One kernel as compiled."""

    name: str
    registers: int
    shared: int
    spills: int
    instructions: int
    exponentials: int


def _tool(name: str) -> str:
    wheel = Path(sysconfig.get_path("purelib")) / "nvidia" / "cu13" / "bin"
    path = shutil.which(name) or shutil.which(name, path=str(wheel))
    if path is None:
        raise SystemExit(f"no {name} here; see the top of {Path(__file__).name}")
    return path


def _readable(mangled: str) -> str:
    """A short name: the kernel's type, the number type and the channels an access."""
    command = [_tool("c++filt"), mangled]
    name = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    match = re.search(r"<rwkv_edge::(?:shift_mix_kernel::)?(\w+)(?:<([^>]*)>)?", name)
    if match is None:
        return mangled
    kinds = {"float": "fp32", "__half": "fp16", "__nv_bfloat16": "bf16", "true": "exact"}
    parameters = [part.strip() for part in (match.group(2) or "").split(",")]
    words = [kinds.get(p, f"x{p}" if p.isdigit() else "") for p in parameters]
    if match.group(1) == "Mix":
        return f"ShiftMix{parameters[2]} {words[0]} {words[1]}"
    return " ".join(filter(None, [match.group(1), *words]))


def compile_kernels(source: Path, arch: str, *flags: str) -> dict[str, Kernel]:
    """Kernels of one file by mangled name."""
    with tempfile.TemporaryDirectory() as scratch:
        cubin = Path(scratch) / "out.cubin"
        command = [_tool("nvcc"), "-std=c++17", "-O3", f"-arch={arch}", "-cubin", "-Xptxas=-v"]
        command += [*flags, "-o", str(cubin), str(source)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise SystemExit(done.stderr)
        cuobjdump = _tool("cuobjdump")
        path = os.pathsep.join([str(Path(cuobjdump).parent), os.environ.get("PATH", "")])
        dump = [cuobjdump, "-sass", str(cubin)]
        sass = subprocess.run(
            dump, capture_output=True, text=True, check=True, env={**os.environ, "PATH": path}
        ).stdout
    operations: defaultdict[str, Counter[str]] = defaultdict(Counter)
    function = ""
    for line in sass.splitlines():
        if match := re.search(r"Function : (\S+)", line):
            function = match.group(1)
        elif match := re.match(r"\s+/\*[0-9a-f]{4,}\*/\s+(?:@!?U?P\w+ )?([A-Z0-9_.]+)", line):
            operations[function][match.group(1)] += 1
    kernels = {}
    for block in done.stderr.split("Compiling entry function '")[1:]:
        name = block.split("'", 1)[0]
        count = operations[name]
        shared = re.search(r"(\d+) bytes smem", block)
        kernels[name] = Kernel(
            _readable(name),
            int(re.search(r"Used (\d+) registers", block).group(1)),  # type: ignore[union-attr]
            int(shared.group(1)) if shared else 0,
            sum(int(n) for n in re.findall(r"(\d+) bytes spill", block)),
            sum(count.values()) - count["NOP"],
            sum(n for op, n in count.items() if op.startswith("MUFU.EX2")),
        )
    return kernels


def blocks_an_sm(kernel: Kernel) -> int:
    """How many blocks of 256 threads an SM of Orin holds."""
    registers = -(-kernel.registers // 8) * 8 * THREADS
    limits = [REGISTERS_A_SM // registers, THREADS_A_SM // THREADS]
    return min([*limits, SHARED_A_SM // (kernel.shared + 1024)])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--arch", default="sm_87")
    parser.add_argument("--all", action="store_true", help="all types, not fp16 and fp32 alone")
    options = parser.parse_args()
    source = PLUGINS / "bi_wkv" / "bi_wkv_kernel.cu"
    full = compile_kernels(source, options.arch)
    full |= compile_kernels(PLUGINS / "shift_mix" / "shift_mix_kernel.cu", options.arch)
    common = compile_kernels(source, options.arch, "-DWKV_COMMON_PATH_ONLY")
    plain_kernels = compile_kernels(PLAIN, options.arch)
    plain = next(kernel for name, kernel in plain_kernels.items() if "two_scansIf" in name)

    print(
        f"{options.arch}; EX2 as static counts of MUFU.EX2, on the common path a token of a channel"
    )
    print(
        "| kernel | registers | shared bytes | spill bytes | blocks/SM | EX2 in all | EX2 a token |"
    )
    print("|---|---|---|---|---|---|---|")
    for mangled, kernel in sorted(full.items(), key=lambda item: item[1].name):
        if "bf16" in kernel.name and not options.all:
            continue
        tokens = SEGMENT * (2 if " x2" in kernel.name else 1)
        a_token = "-"
        if re.match("(Forward|Backward)(Sum|Emit)", kernel.name):
            # The block's constants: five a channel, by 16 of its 256 threads.
            own = common[mangled].exponentials - CHANNEL_CONSTANTS
            a_token = f"{own / tokens + CHANNEL_CONSTANTS / (THREADS / 16 * tokens):.2f}"
        print(
            f"| {kernel.name} | {kernel.registers} | {kernel.shared} | {kernel.spills} "
            f"| {blocks_an_sm(kernel)} | {kernel.exponentials} | {a_token} |"
        )
    print(
        f"| plain, two scans, fp32 | {plain.registers} | {plain.shared} | {plain.spills} "
        f"| {blocks_an_sm(plain)} | {plain.exponentials} | {plain.exponentials:.2f} |"
    )


if __name__ == "__main__":
    main()
