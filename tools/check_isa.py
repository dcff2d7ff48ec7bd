"""Does code for a wide instruction set stay where it is chosen? Reads the object files of a build for x86, and prints
what does not: `python tools/check_isa.py BUILD`.

The names of files and namespaces say which set they are for. Elsewhere there is none but the baseline's code; and a
file for a wide set defines no function that the linker may merge with one of the same name from elsewhere, as it does
with inline functions: it could keep the wide one.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

WIDE = re.compile(r"avx[0-9]+")
# Mnemonics of AVX and wider begin with v; those few of the baseline that do have nothing to do with vectors.
ADVANCED = re.compile(r"^\s*[0-9a-f]+:\t(v(?!err|erw|mcall|mmcall)\w+)\s+(.*)$", re.MULTILINE)
REGISTERS = {"avx2": re.compile(r"%zmm|%[xy]mm(?:1[6-9]|2[0-9]|3[01])\b|\{%k"), "avx512": re.compile(r"(?!)")}


def output(*command: str) -> str:
    """What a command prints."""
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def check(file: Path) -> list[str]:
    """What is wrong with one object file."""
    wide = WIDE.search(file.name)
    code = ADVANCED.findall(output("objdump", "-d", "--no-show-raw-insn", str(file)))
    if wide is None:
        return [f"{file.name}: {code[0][0]} {code[0][1]}, but it is for every machine"] if code else []
    wrong = [f"{file.name}: {name} {operands}" for name, operands in code if REGISTERS[wide[0]].search(operands)][:1]
    for line in output("nm", "-C", "--defined-only", str(file)).splitlines():
        _, kind, name = line.split(maxsplit=2)
        if kind in "Ww" and "(" in name and f"agf::{wide[0]}::" not in name:
            wrong.append(f"{file.name}: defines {name}, which the linker may merge with another file's")
    return wrong


def main() -> int:
    if len(sys.argv) != 2 or not Path(sys.argv[1]).is_dir():
        print("usage: python tools/check_isa.py BUILD, the folder of a build", file=sys.stderr)
        return 2
    files = sorted(Path(sys.argv[1]).rglob("*.cpp.o"))
    if not any(WIDE.search(file.name) for file in files):
        print(f"no object files for wide instruction sets in {sys.argv[1]}", file=sys.stderr)
        return 2
    wrong = [line for file in files for line in check(file)]
    print("\n".join(wrong) if wrong else f"instruction sets: {len(files)} object files, each keeps to its own")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
