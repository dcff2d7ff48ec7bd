"""Registers and spills of every kernel, from what `nvcc -Xptxas=-v` says; fails on a spill.

Functions that are called, those of the engine in a block, are counted with the largest of their stacks: what they save
for their callers is told as a spill.

cmake --build build/cuda 2>&1 | python tools/kernel_resources.py
"""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import dataclass

ENTRY = re.compile(r"Compiling entry function '([^']+)' for 'sm_(\d+)a?'")
FUNCTION = re.compile(r"Function properties for (\S+)")
SPILLS = re.compile(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads")
USED = re.compile(r"Used (\d+) registers")


@dataclass
class Kernel:
    """One kernel for one architecture."""

    name: str
    architecture: str
    registers: int = 0
    stack: int = 0
    spilled: int = 0


def read(lines: list[str]) -> tuple[list[Kernel], list[Kernel]]:
    """The kernels that a build's output tells of, and the functions that they call."""
    kernels: list[Kernel] = []
    called: list[Kernel] = []
    function = ""
    for line in lines:
        if entry := ENTRY.search(line):
            kernels.append(Kernel(entry[1], entry[2]))
        elif named := FUNCTION.search(line):
            function = named[1]
        elif kernels and (spills := SPILLS.search(line)):
            at = kernels[-1]
            if function != at.name:
                called.append(at := Kernel(function, at.architecture))
            at.stack = int(spills[1])
            at.spilled = int(spills[2]) + int(spills[3])
        elif kernels and (used := USED.search(line)):
            kernels[-1].registers = int(used[1])
    names = subprocess.run(
        ["c++filt"], input="\n".join(kernel.name for kernel in kernels), capture_output=True, text=True, check=True
    ).stdout.splitlines()
    for kernel, name in zip(kernels, names, strict=True):
        kernel.name = name.split("(agf::cuda")[0].removeprefix("void agf::cuda::")
    return kernels, called


def main() -> int:
    found, called = read(sys.stdin.readlines())
    kernels = sorted(found, key=lambda kernel: (kernel.name, int(kernel.architecture)))
    print(f"{'registers':>9} {'stack':>6} {'spilled':>8}  kernel")
    for kernel in kernels:
        print(
            f"{kernel.registers:9d} {kernel.stack:6d} {kernel.spilled:8d}  sm_{kernel.architecture} {kernel.name[:160]}"
        )
    spilled = [kernel for kernel in kernels if kernel.spilled]
    print(f"{len(kernels)} kernels, {len(spilled)} with spills")
    if called:
        largest = max(called, key=lambda function: function.stack)
        print(f"{len(called)} functions that they call, the largest stack {largest.stack}: {largest.name[:120]}")
    if not kernels:
        print("no kernel was told of; build from scratch with -Xptxas=-v", file=sys.stderr)
        return 2
    return 1 if spilled else 0


if __name__ == "__main__":
    sys.exit(main())
