"""Threads: how many, whose, and that neither forks nor callers at the same time disturb one another."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

import agf_fast as agf
from agf_fast import _core

LARGE = """
import os, signal, sys, threading, time
import numpy as np
import agf_fast as agf
from agf_fast import _core

generator = np.random.default_rng(0)
X, Y = generator.standard_normal((4000, 20)), generator.standard_normal((4000, 3))
problem = agf.Dense(X, Y, activation="gelu")
theta = generator.standard_normal((64, 23))

def bits():
    return problem.utility_gradient(theta).tobytes()
"""


def run(*arguments, **environment):
    kept = {name: value for name, value in os.environ.items() if name not in ("AGF_THREADS", "OPENBLAS_NUM_THREADS")}
    # Ignored: newer Pythons warn of every fork beside threads, which is what is tested.
    return subprocess.run(
        [sys.executable, "-W", "ignore::DeprecationWarning", *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        env={**kept, **environment},
    )


def answer(*arguments, **environment):
    result = run(*arguments, **environment)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout.strip()


def test_the_environment_says_how_many():
    code = """
import os
import agf_fast as agf
for value in ("abc", "0", "-1", "2.5", "1000000000", "99999999999999999999", "1025"):
    os.environ["AGF_THREADS"] = value
    try:
        agf.set_threads(1)
    except ImportError as error:
        assert f"AGF_THREADS: got '{value}', expected an integer from 1 to 1024" in str(error), error
        assert "unset it" in str(error) and "install" not in str(error), error
    else:
        raise SystemExit(f"{value} was taken")
os.environ["AGF_THREADS"] = "3"
print(agf.info()["threads"])
"""
    assert answer("-c", code) == "3"


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="the system has no affinity masks")
def test_the_default_is_what_the_process_may_use():
    code = """
import os
os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
import agf_fast as agf
print(agf.info()["threads"])
"""
    assert answer("-c", code) == "1"
    assert answer("-c", code, AGF_THREADS="") == "1"
    assert 1 <= int(answer("-c", "import agf_fast; print(agf_fast.info()['threads'])")) <= len(os.sched_getaffinity(0))


@pytest.mark.skipif(not os.path.isdir("/proc/self/task"), reason="counts threads in /proc")
def test_the_only_threads_are_the_pool_and_they_sleep():
    code = f"""
import os, numpy
before = len(os.listdir("/proc/self/task"))
{LARGE}
agf.set_threads(3)
bits()
print(len(os.listdir("/proc/self/task")) - before)
agf.set_threads(1)
bits()
agf.set_threads(2)
bits()
# Idle workers take no time: they look about for a moment, then sleep.
time.sleep(0.05)
began = time.process_time()
time.sleep(0.3)
print(time.process_time() - began < 0.03)
"""
    # NumPy's BLAS without workers: those spin for a while after it is loaded.
    assert answer("-c", code, OPENBLAS_NUM_THREADS="1").split() == ["2", "True"]
    # What NumPy's own BLAS would read is left as it was.
    code = "import os, agf_fast; agf_fast.info(); print(os.popen('echo $OPENBLAS_NUM_THREADS').read().strip())"
    assert answer("-c", code) == "" and answer("-c", code, OPENBLAS_NUM_THREADS="2") == "2"
    assert "1 thread per call" in _core.info()["blas"]


@pytest.mark.parametrize("method", ["spawn", "fork"])
def test_worker_processes_have_one_thread_each(method, tmp_path):
    if method == "fork" and not hasattr(os, "fork"):
        pytest.skip("the system does not fork")
    code = f"""
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
import agf_fast as agf
from agf_fast import _core

def count(_):
    return agf.info()["threads"]

if __name__ == "__main__":
    agf.set_threads(2)
    for arguments in ({{}}, {{"initializer": agf.set_threads, "initargs": (3,)}}):
        with ProcessPoolExecutor(1, get_context({method!r}), **arguments) as workers:
            print(*workers.map(count, range(2)))
    print(_core.get_threads())
"""
    # Spawned workers import the main module, so it must be a file.
    script = tmp_path / "workers.py"
    script.write_text(code)
    assert answer(str(script)).split() == ["1", "1", "3", "3", "2"]
    # Whoever sets the variable has counted.
    inherited = "2" if method == "fork" else "4"
    assert answer(str(script), AGF_THREADS="4").split() == [inherited, inherited, "3", "3", "2"]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the system does not fork")
def test_forks_compute_and_so_does_the_parent():
    """Children forked after the pool was used, and in the middle of another thread's jobs; none may hang."""
    code = f"""{LARGE}
agf.set_threads(2)
expected = bits()
stop = threading.Event()
other = threading.Thread(target=lambda: [bits() for _ in iter(stop.is_set, True)])
other.start()
for k in range(40):
    time.sleep(0.0007 * (k % 5))
    child = os.fork()
    if child == 0:
        signal.alarm(60)
        same = all(bits() == expected for _ in range(2)) and _core.get_threads() == 2
        os._exit(0 if same else 1)
    if k % 4 == 0:
        assert bits() == expected
    status = os.waitpid(child, 0)[1]
    assert status == 0, status
stop.set()
other.join()
assert bits() == expected
print("same")
"""
    assert answer("-c", code) == "same"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the system does not fork")
def test_forked_pools_of_processes_compute():
    code = f"""{LARGE}
from multiprocessing import get_context
agf.set_threads(2)
expected = bits()
with get_context("fork").Pool(2) as pool:
    assert all(result == expected for result in pool.starmap(bits, [()] * 6))
print("same")
"""
    assert answer("-c", code) == "same"


def test_python_threads_share_a_problem(threads):
    """Callers at the same time, of which one at a time has the pool: everyone's bits are those of a call alone."""
    generator = np.random.default_rng(3)
    X, Y = generator.standard_normal((3000, 16)), generator.standard_normal((3000, 2))
    problem = agf.Dense(X, Y, activation="tanh")
    theta = [generator.standard_normal((40, 18)) for _ in range(4)]
    threads(1)
    alone = [problem.utility_gradient(each) for each in theta]
    threads(3)
    wrong = []

    def work(k):
        for _ in range(10):
            if not np.array_equal(problem.utility_gradient(theta[k]), alone[k]):
                wrong.append(k)

    callers = [threading.Thread(target=work, args=(k,)) for k in range(4)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join(60)
        assert not caller.is_alive()
    assert not wrong


def test_the_number_changes_between_calls_of_others(threads):
    """set_threads while another thread computes takes effect at the next job; nothing is lost or done twice."""
    generator = np.random.default_rng(4)
    problem = agf.Dense(generator.standard_normal((3000, 16)), generator.standard_normal((3000, 2)), activation="silu")
    theta = generator.standard_normal((40, 18))
    expected = problem.utility_gradient(theta)
    stop = time.monotonic() + 0.5
    wrong = []

    def work():
        while time.monotonic() < stop:
            if not np.array_equal(problem.utility_gradient(theta), expected):
                wrong.append(True)

    caller = threading.Thread(target=work)
    caller.start()
    count = 0
    while time.monotonic() < stop:
        threads(1 + count % 4)
        count += 1
        time.sleep(0.002)
    caller.join(60)
    assert not caller.is_alive() and not wrong
