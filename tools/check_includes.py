"""Do the arrows of the house still point down? Run from the root of the tree; prints what breaks them.

    python -> bind -> cpp/agf <- {cpp/cpu, cuda}

cpp/agf knows no device and no Python; cpp/cpu and cuda never meet, and Python is known to cpp/bind and cuda/bind alone;
the leaves know only each other; in Python, only _backend chooses an engine, and nothing imports SciPy outside the
reference.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

LEAVES = {"config.hpp", "view.hpp", "elementary.hpp", "sigma.hpp", "pointwise.hpp", "diagonal_leaf.hpp", "models.def"}
SOURCES = {".hpp", ".cpp", ".inl", ".def", ".cu", ".cuh", ".h"}
INCLUDE = re.compile(r'^\s*#\s*include\s*([<"])([^>"]+)[>"]', re.MULTILINE)
IMPORT = re.compile(r"^\s*(?:from|import)\s+([\w.]+)", re.MULTILINE)
PYTHON = re.compile(r"^(pybind11|Python\.h|numpy/)")
DEVICE = re.compile(r"^(cuda|cublas|cusolver|nv)")
# Room: (rooms that it must not include, whether Python, whether device headers may appear)
RULES = {
    "cpp/agf": ({"cpp/cpu", "cuda", "cpp/bind"}, False, False),
    "cpp/cpu": ({"cuda", "cpp/bind"}, False, False),
    "cuda": ({"cpp/cpu", "cpp/bind", "cuda/bind"}, False, True),
    "cuda/bind": ({"cpp/cpu"}, True, True),
    "cpp/bind": ({"cuda"}, True, False),
}


def room_of(root: Path, file: Path) -> str:
    """The room a file is in."""
    parts = file.relative_to(root).parts
    return "/".join(parts[:2]) if parts[0] == "cpp" or parts[:2] == ("cuda", "bind") else parts[0]


def target(root: Path, file: Path, name: str) -> Path | None:
    """The file of this tree that an include names, or None."""
    for base in (file.parent, root / "cpp", root / "cuda", root):
        candidate = (base / name).resolve()
        if candidate.is_file() and candidate.is_relative_to(root):
            return candidate
    return None


def check_sources(root: Path) -> list[str]:
    """Includes of C++ and CUDA that point the wrong way, or nowhere."""
    wrong = []
    for room, (forbidden, python, device) in RULES.items():
        for file in sorted((root / room).rglob("*")):
            if file.suffix not in SOURCES or room_of(root, file) != room:
                continue
            where = file.relative_to(root).as_posix()
            leaf = room == "cpp/agf" and (file.name in LEAVES or file.parent.name == "analysis")
            for quote, name in INCLUDE.findall(file.read_text()):
                if PYTHON.match(name) and not python:
                    wrong.append(f"{where}: includes {name}, but only bind knows Python")
                if DEVICE.match(name) and not device:
                    wrong.append(f"{where}: includes {name}, but only cuda knows a device")
                if quote != '"':
                    continue
                found = target(root, file, name)
                if found is None:
                    wrong.append(f"{where}: includes {name}, which is not in the tree")
                    continue
                into = room_of(root, found)
                if into in forbidden:
                    wrong.append(f"{where}: includes {name}, but {room} must not know {into}")
                if leaf and found.name not in LEAVES and found.parent.name != "analysis":
                    wrong.append(f"{where}: includes {name}, but leaves include only each other")
    return wrong


def check_python(root: Path) -> list[str]:
    """Imports at the top of modules that would make `import agf_fast` heavy, and uses of the compiled core."""
    wrong = []
    package = root / "python" / "agf_fast"
    for file in sorted(package.rglob("*.py")):
        where = file.relative_to(root).as_posix()
        reference = "reference" in file.relative_to(package).parts
        # An import under `if TYPE_CHECKING:` or in a function is indented; those are not at the top.
        top = [
            name
            for line, name in ((m.group(0), m.group(1)) for m in IMPORT.finditer(file.read_text()))
            if line.strip("\n")[:1] not in " \t"
        ]
        for name in top:
            first = name.split(".")[0]
            if first in {"scipy", "matplotlib", "tqdm", "torch", "cupy"} and not (reference and first == "scipy"):
                wrong.append(f"{where}: imports {name} at its top, but importing agf_fast loads NumPy alone")
            if reference and "_core" in name:
                wrong.append(
                    f"{where}: imports {name}, but the reference is an oracle and shares nothing with the core"
                )
    return wrong


def main() -> int:
    root = Path.cwd().resolve()
    if not (root / "cpp" / "agf").is_dir():
        print("no cpp/agf here; run from the root of the tree", file=sys.stderr)
        return 2
    wrong = check_sources(root) + check_python(root)
    print("\n".join(wrong) if wrong else "includes: every arrow points down")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
