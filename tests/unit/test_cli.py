"""The command: what it prints, what it writes, and how it refuses."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

import agf_fast as agf
from support.problems import teacher_data


def command(*arguments, cwd=None, timeout=240):
    return subprocess.run(
        [sys.executable, "-W", "error", "-m", "agf_fast", *map(str, arguments)],
        capture_output=True, text=True, cwd=cwd, timeout=timeout,
    )  # fmt: skip


def test_info():
    result = command("info")
    assert result.returncode == 0, result.stderr
    for key in ("agf_fast", "numpy", "isa", "threads", "blas", "cuda"):
        assert any(line.split()[:1] == [key] for line in result.stdout.splitlines()), key


def test_selftest():
    result = command("selftest")
    assert result.returncode == 0, result.stderr
    assert "all good" in result.stdout and "ModularAddition, float32: gradient flow" in result.stdout


def test_selftest_without_what_it_compares_with():
    code = "import sys; sys.modules['scipy'] = None; from agf_fast._cli import main; sys.exit(main(['selftest']))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert result.returncode == 2 and "needs SciPy" in result.stderr and "Traceback" not in result.stderr


def test_installed_script(tmp_path):
    from pathlib import Path

    script = Path(sys.executable).parent / "agf"
    result = subprocess.run([script, "--version"], capture_output=True, text=True, timeout=60)
    assert result.returncode == 0 and agf.__version__ in result.stdout


def test_run_on_the_digits(tmp_path):
    """The main job, cut to two jumps: a table with accuracies, a picture and a file that load() reads."""
    result = command("run", "--max-jumps", 2, "--no-flow", "--out", tmp_path / "digits", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert "1438 training" in result.stdout and "359 test" in result.stdout
    assert "centred" in result.stdout and "E|x|^2 = 1" in result.stdout
    picture = (tmp_path / "digits.png").read_bytes()
    assert picture[:8] == b"\x89PNG\r\n\x1a\n" and len(picture) > 10_000
    path = agf.load(tmp_path / "digits.npz")
    assert len(path.jumps) == 2 and path.loss[2] < path.loss[1] < path.loss[0]
    for jump in path.jumps:
        assert f"{jump.loss_after:.6g}" in result.stdout


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """The same regression data as .npz and .csv."""
    folder = tmp_path_factory.mktemp("data")
    X, Y = teacher_data(n=40, c=1)
    np.savez(folder / "data.npz", X=X, y=Y[:, 0])
    np.savetxt(folder / "data.csv", np.concatenate([X, Y], axis=1), delimiter=",", fmt="%.17g")
    labels = (Y[:, 0] > 0).astype(int)
    np.savez(folder / "labels.npz", X=X, y=labels)
    return folder


def test_own_data(files, tmp_path):
    runs = []
    for name in ("data.npz", "data.csv"):
        out = tmp_path / name.replace(".", "-")
        result = command(
            "run", "--data", files / name, "--activation", "tanh", "--width", 4, "--scale", "1e-4", "--seed", 3,
            "--max-jumps", 2, "--out", out, cwd=tmp_path,
        )  # fmt: skip
        assert result.returncode == 0, result.stderr
        assert out.with_name(out.name + ".png").exists()
        runs.append(agf.load(out.with_name(out.name + ".npz")))
    np.testing.assert_array_equal(runs[0].loss, runs[1].loss)
    result = command(
        "run",
        "--data",
        files / "labels.npz",
        "--width",
        3,
        "--max-jumps",
        1,
        "--no-flow",
        cwd=tmp_path,
    )
    assert result.returncode == 0, result.stderr
    assert "2 classes" in result.stdout and "accuracy" in result.stdout
    assert (tmp_path / "agf-run.png").exists() and (tmp_path / "agf-run.npz").exists()


@pytest.mark.parametrize(
    "arguments",
    [
        ["--data", "missing.npz"],
        ["--data", "missing.txt"],
        ["--width", "0"],
        ["--scale", "0"],
        ["--scale", "nan"],
        ["--activation", "softmax"],
        ["--max-jumps", "-1"],
        ["--out", "no/such/folder/x"],
        ["--unknown"],
    ],
    ids=" ".join,
)
def test_refuses_in_one_line(arguments, tmp_path):
    result = command("run", *arguments, cwd=tmp_path)
    assert result.returncode == 2
    assert "Traceback" not in result.stderr and result.stderr.strip()
    assert not list(tmp_path.iterdir())


def test_refuses_bad_files(tmp_path):
    X, Y = teacher_data(n=20, c=1)
    bad = X.copy()
    bad[3, 0] = np.nan
    np.savez(tmp_path / "nan.npz", X=bad, y=Y)
    np.savez(tmp_path / "keys.npz", a=X, b=Y)
    np.savez(tmp_path / "rows.npz", X=X, y=Y[:-1])
    np.savez(tmp_path / "objects.npz", X=X.astype(object), y=Y)
    (tmp_path / "zip.npz").write_text("not a zip")
    (tmp_path / "words.csv").write_text("a,b\nc,d\n")
    (tmp_path / "empty.csv").write_text("")
    for file in sorted(tmp_path.glob("*.npz")) + sorted(tmp_path.glob("*.csv")):
        result = command("run", "--data", file, "--no-flow", "--out", tmp_path / "out", cwd=tmp_path)
        assert result.returncode == 2, (file.name, result.stdout, result.stderr)
        assert file.name in result.stderr and "Traceback" not in result.stderr
