"""Sweeps: the same values and seeds wherever they run, failures kept, interrupted work taken up again."""

import pickle
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import get_context

import numpy as np
import pytest

import agf_fast as agf

GRID = {"scale": [1e-2, 1e-4], "width": [1, 2, 3]}


def first_jump(scale, width, seed):
    problem = agf.Attention(np.diag([1.0, 0.5]), context=4)
    path = agf.alternating_gradient_flow(problem, problem.initialize(width, scale, seed % 1000), max_jumps=1)
    return path.jumps[0].time


def picky(scale, width, seed):
    if width == 2:
        raise RuntimeError(f"no width {width}")
    return scale * width + seed % 7


def test_the_same_everywhere():
    here = agf.sweep(first_jump, GRID, seed=3)
    with ThreadPoolExecutor(2) as threads:
        assert agf.sweep(first_jump, GRID, seed=3, executor=threads).values == here.values
    with ProcessPoolExecutor(2, get_context("spawn")) as processes:
        assert agf.sweep(first_jump, GRID, seed=3, executor=processes).values == here.values
    assert [task.parameters for task in here][1] == {"scale": 1e-2, "width": 2}
    assert len({task.seed for task in here}) == 6
    assert agf.sweep(first_jump, GRID, seed=4).values != here.values


def many(width, seed):
    """An ensemble, which comes back from another process whole."""
    problem = agf.Attention(np.diag([1.0, 0.5]), context=4)
    starts = problem.initialize(width, 1e-2, seed=[seed % 1000, 1])
    return agf.alternating_gradient_flow(problem, starts, max_jumps=1)


def test_ensembles_in_worker_processes_take_one_thread_each(threads, monkeypatch):
    monkeypatch.delenv("AGF_THREADS", raising=False)
    threads(2)
    with ProcessPoolExecutor(1, get_context("spawn")) as processes:
        [there] = agf.sweep(many, {"width": [2]}, executor=processes).values
    [here] = agf.sweep(many, {"width": [2]}).values
    assert there.stats["threads"] == 1 and here.stats["threads"] == 2
    assert there.state == here.state


def test_failures_are_kept_with_their_traceback():
    found = agf.sweep(picky, GRID)
    assert [task.status for task in found] == ["done", "failed", "done"] * 2
    assert "RuntimeError: no width 2" in found.failures[0].error and "no width 2" in repr(found)


def test_a_seed_in_the_grid_is_the_one_used():
    assert agf.sweep(lambda seed: seed, {"seed": [5, 6]}).values == [5, 6]
    assert agf.sweep(lambda a: a, [{"a": 1}]).values == [1]


def test_what_is_finished_is_not_run_again(tmp_path):
    calls = []

    def counted(scale, width, seed):
        calls.append((scale, width))
        if len(calls) == 3:
            raise KeyboardInterrupt
        return picky(scale, width, seed)

    with pytest.raises(KeyboardInterrupt) as caught:
        agf.sweep(counted, GRID, out=tmp_path / "sweep")
    assert [task.status for task in caught.value.sweep] == ["done", "failed", *["pending"] * 4]
    again = agf.sweep(counted, GRID, out=tmp_path / "sweep", resume=True)
    # The failure is run again, what was done is not.
    assert calls[3] == (1e-2, 2) and calls.count((1e-2, 1)) == 1
    assert again.values == agf.sweep(picky, GRID).values


def test_a_callback_stops_the_sweep():
    found = agf.sweep(picky, GRID, callback=lambda task: task.index == 2)
    assert [task.status for task in found] == ["done", "failed", "done", *["pending"] * 3]


def test_folders_of_others_are_refused(tmp_path):
    agf.sweep(picky, GRID, out=tmp_path / "a")
    with pytest.raises(ValueError, match="holds a sweep, expected an empty"):
        agf.sweep(picky, GRID, out=tmp_path / "a")
    with pytest.raises(ValueError, match="another grid or seed"):
        agf.sweep(picky, GRID, out=tmp_path / "a", seed=1, resume=True)
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "mine.txt").write_text("")
    with pytest.raises(ValueError, match="holds no sweep"):
        agf.sweep(picky, GRID, out=tmp_path / "b")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "cannot be read .EOFError"),
        (pickle.dumps([1.0] * 9)[:-5], "cannot be read .UnpicklingError|cannot be read .EOFError"),
        (b"cnowhere_at_all\nthing\n.", "cannot be read .ModuleNotFoundError"),
        (pickle.dumps({"status": "done"}), "with a dict, expected a finished task"),
    ],
)
def test_a_damaged_task_is_named_and_the_others_kept(tmp_path, content, message):
    agf.sweep(picky, GRID, out=tmp_path)
    damaged = tmp_path / "task-000000.pickle"
    damaged.write_bytes(content)
    with pytest.raises(ValueError, match=message) as caught:
        agf.sweep(picky, GRID, out=tmp_path, resume=True)
    assert str(damaged) in str(caught.value)
    damaged.unlink()
    assert agf.sweep(picky, GRID, out=tmp_path, resume=True).values == agf.sweep(picky, GRID).values


def test_bad_arguments_are_named():
    with pytest.raises(TypeError, match="function is int"):
        agf.sweep(3, GRID)
    with pytest.raises(TypeError, match="executor is int"):
        agf.sweep(picky, GRID, executor=3)
    with pytest.raises(TypeError, match=r"grid\['scale'\] is float"):
        agf.sweep(picky, {"scale": 1.0})
    with pytest.raises(TypeError, match="grid is int"):
        agf.sweep(picky, 3)
    with pytest.raises(ValueError, match="no points"):
        agf.sweep(picky, {"scale": []})
    with pytest.raises(ValueError, match="resume is True without out"):
        agf.sweep(picky, GRID, resume=True)
