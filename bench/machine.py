"""What figures were taken on; no names of hosts, users or places."""

from __future__ import annotations

import importlib
import json
import os
import platform
import re
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import agf_fast as agf

from .threads import cores, dropped, environment

PACKAGES = ("numpy", "scipy", "torch", "jax", "jaxlib", "scikit-learn")
SETTINGS = ("AGF_ISA", "AGF_THREADS")
ROOT = Path(__file__).resolve().parents[1]
RESULTS = Path(__file__).with_name("results")
CACHES = Path("/sys/devices/system/cpu/cpu0/cache")


def machine() -> dict[str, Any]:
    """CPU, caches, cores, versions, and the BLAS of each library with the kernels it takes in a case's environment."""
    done = subprocess.run(
        [sys.executable, "-m", "bench.machine"],
        cwd=ROOT,
        env=environment(1),
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return {**json.loads(done.stdout), "dropped": dropped()}


def _facts() -> dict[str, Any]:
    info = agf.info()
    versions = {}
    for name in PACKAGES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            versions[name] = "missing"
    return {
        "cpu": cpu(),
        "cores": cores(),
        "caches": caches(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "agf_fast": {key: info[key] for key in ("agf_fast", "isa", "isa_available", "blas", "compiler") if key in info},
        "versions": versions,
        "blas": blas(),
        "settings": {name: os.environ[name] for name in SETTINGS if name in os.environ},
    }


def cpu() -> str:
    """The model's name, with family and model number, since a virtual machine may tell no more of the name than its
    maker."""
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        return platform.processor() or platform.machine()
    facts = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in text.splitlines())}
    name = facts.get("model name", platform.machine())
    numbers = [
        f"{key} {facts[field]}" for key, field in (("family", "cpu family"), ("model", "model")) if field in facts
    ]
    return f"{name} ({', '.join(numbers)})" if numbers else name


def caches() -> dict[str, str]:
    """Sizes of the first core's."""
    found = {}
    for folder in sorted(CACHES.glob("index*")):
        try:
            level, kind, size = ((folder / name).read_text().strip() for name in ("level", "type", "size"))
        except OSError:
            continue
        found[f"L{level}{kind[0].lower() if level == '1' else ''}"] = size
    return found


def blas() -> dict[str, str]:
    """Version and kernels of the OpenBLAS of NumPy and SciPy, from threadpoolctl (scikit-learn brings it)."""
    try:
        threadpoolctl = importlib.import_module("threadpoolctl")
    except ImportError:
        return {}
    importlib.import_module("scipy.linalg")
    found = {}
    for library in threadpoolctl.threadpool_info():
        owner = next((name for name in ("numpy", "scipy") if f"{name}.libs" in library["filepath"]), None)
        if owner and library["user_api"] == "blas":
            found[owner] = f"{library['internal_api']} {library['version']} ({library.get('architecture', 'unknown')})"
    return found


def results_file() -> Path:
    """Where this machine's figures are kept."""
    return RESULTS / f"{slug(cpu(), cores())}.json"


def slug(name: str, count: int) -> str:
    """A machine's name: amd-epyc-2cores for "AMD EPYC (family 26, model 2)"."""
    plain = re.sub(r"\(.*?\)|@.*|\bCPU\b|\bProcessor\b|\d+-Core", " ", name)
    words = re.findall(r"[a-z0-9.]+", plain.lower())
    return "-".join([*words, f"{count}core{'s' * (count > 1)}"])


if __name__ == "__main__":
    print(json.dumps(_facts()))
