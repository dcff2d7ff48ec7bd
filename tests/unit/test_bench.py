"""The benchmarks' own logic: bars, tables, statistics, and that they run on the smallest case."""

from __future__ import annotations

import importlib
import json
import sys
from dataclasses import replace
from math import comb

import numpy as np
import pytest

from bench import __main__ as command
from bench import page, table
from bench.catalogue import CASES
from bench.compare import claim
from bench.limits import gemm_fractions
from bench.machine import slug
from bench.passes import design
from bench.probe import Probe
from bench.rows import Bar, Curve, Fraction, Outcome, Peer, Row
from bench.timing import Timing, paired_ratio, summary

SLOWER = Row(
    "leaves",
    "small float32",
    2e-3,
    spread=1e-4,
    peers=(
        Peer("NumPy", 4e-3),
        Peer("JAX", 1.8e-3),
        Peer("torch", None),
        Peer("old", 1e-6, quoted=True),
    ),
    fractions=(Fraction("fastest GEMM", 0.89), Fraction("NumPy GEMM", 1.2)),
    error=1e-7,
    bars=(Bar("fraction", ">=", 0.9), Bar("ratio", ">=", 1.0)),
)


def test_ratio_is_to_the_best_measured_peer():
    assert SLOWER.rival == Peer("JAX", 1.8e-3)
    assert SLOWER.ratio == pytest.approx(0.9)


def test_bars_are_judged_by_the_first_fraction_and_the_ratio():
    assert SLOWER.missed == SLOWER.bars
    faster = replace(SLOWER, ours=1.8e-3, fractions=(Fraction("fastest GEMM", 0.9),))
    assert faster.missed == ()
    assert table.verdict(faster) == "pass"


def test_the_shortfall_is_said_and_whether_the_spread_reaches_the_bar():
    assert table.verdict(SLOWER) == "shortfall: of limit 89.0%, within the spread; shortfall: ratio 0.9"


def test_no_bar_no_verdict():
    assert table.verdict(replace(SLOWER, bars=())) == ""


def test_a_figure_that_is_not_there_meets_no_bar_and_without_peers_nothing_is_compared():
    alone = replace(SLOWER, peers=(Peer("torch", None),), fractions=())
    assert alone.ratio is None
    assert [bar.quantity for bar in alone.missed] == ["fraction"]
    assert table.verdict(alone) == "shortfall: no fraction was taken"
    compared = replace(alone, bars=(Bar("ratio", ">=", 1.0),))
    assert compared.missed == () and table.verdict(compared) == "not judged: no peer"
    assert table.totals([compared]).startswith("0 of 0")


@pytest.mark.parametrize(
    "direction, number, met", [("<=", 2e-3, True), ("<=", 1.9e-3, False), (">=", 2e-3, True), (">=", 2.1e-3, False)]
)
def test_direction(direction, number, met):
    assert bool(replace(SLOWER, bars=(Bar("ours", direction, number),)).missed) is not met


def test_table_names_missing_and_quoted_peers_and_drops_empty_columns():
    text = table.table([SLOWER])
    heading = " ".join(text.splitlines()[1].split())
    assert heading == "case ours NumPy JAX torch old ratio of limit error bar verdict"
    assert "missing" in text and "1 us (quoted)" in text and "2 ms ±5%" in text


@pytest.mark.parametrize(
    "value, unit, text",
    [
        (1.5, "s", "1.5 s"),
        (2e-4, "s", "200 us"),
        (64e6, "B", "64 MB"),
        (-2e3, "B", "-2 kB"),
        (366200.0, "evaluations", "366,200 ev"),
        (1.9, "x", "1.9 x"),
    ],
)
def test_numbers(value, unit, text):
    assert table.number(value, unit) == text


def test_outcome_through_json():
    curve = Curve("stiff", "LSODA", (1e-3, 1e-6), (1e-2, 1e-5), (10, 20), (0, 3), (0.1, 0.2))
    outcome = Outcome([SLOWER, replace(SLOWER, ours=None, spread=None, peers=(), bars=())], [curve])
    data = json.loads(json.dumps(outcome.data()))
    assert [record["verdict"] for record in data["rows"]] == ["shortfall", None]
    assert Outcome.from_data(data) == outcome


@pytest.mark.parametrize(
    "cpu, cores, name",
    [
        ("AMD EPYC (family 26, model 2)", 2, "amd-epyc-2cores"),
        ("Intel(R) Xeon(R) Platinum 8488C CPU @ 2.40GHz (family 6, model 143)", 1, "intel-xeon-platinum-8488c-1core"),
        ("AMD Ryzen 9 7950X 16-Core Processor", 16, "amd-ryzen-9-7950x-16cores"),
    ],
)
def test_slug(cpu, cores, name):
    assert slug(cpu, cores) == name


def test_gemm_fractions_begin_with_the_fastest():
    fractions = gemm_fractions(2.0 * 2048**3, 2.0, {"NumPy GEMM": 2.0, "torch GEMM": 1.0})
    assert [(fraction.of, fraction.value) for fraction in fractions] == [("torch GEMM", 0.5), ("NumPy GEMM", 1.0)]


def test_summary():
    assert summary([5.0, 1.0, 2.0, 3.0, 4.0]) == Timing(3.0, 1.0)


@pytest.mark.parametrize("n, k", [(1, 1), (5, 1), (7, 1), (9, 2), (15, 4)])
def test_interval_of_the_median(n, k):
    """By the sign test: the k-th smallest and k-th largest of n."""
    theirs = [1.0 + 0.01 * j for j in range(n)]
    ratio = paired_ratio([1.0] * n, theirs)
    assert (ratio.low, ratio.high) == (theirs[k - 1], theirs[n - k])
    assert ratio.confidence == pytest.approx(1 - 2 * sum(comb(n, j) for j in range(k)) / 2**n)


def test_interval_covers_the_median_as_often_as_it_says():
    rng = np.random.default_rng(0)
    draws = rng.lognormal(size=(2000, 9))
    found = [paired_ratio([1.0] * 9, list(row)) for row in draws]
    covered = np.mean([ratio.low <= 1.0 <= ratio.high for ratio in found])
    # Three standard deviations of 2,000 trials.
    assert abs(covered - found[0].confidence) <= 3 * np.sqrt(0.04 * 0.96 / 2000)


def test_claims():
    assert claim(paired_ratio([1.0] * 7, [0.5] * 7)) == "B is faster, 2.000 times"
    assert claim(paired_ratio([1.0] * 7, [1.5] * 7)) == "A is faster, 1.500 times"
    assert claim(paired_ratio([1.0] * 7, [0.9] * 3 + [1.05] * 4)).startswith("not told apart; a difference of 10.0%")
    assert claim(paired_ratio([1.0] * 7, [1.003] * 7)) == "A is faster, 1.003 times"
    assert claim(paired_ratio([1.0] * 5, [2.0] * 5)).startswith("too few rounds")


def test_page_explains_what_falls_short():
    facts = {
        "cpu": "X",
        "cores": 2,
        "caches": {"L2": "1024K"},
        "system": "Linux x86_64",
        "python": "3.13",
        "agf_fast": {"agf_fast": "0"},
        "versions": {},
        "blas": {},
        "settings": {},
        "dropped": {"OPENBLAS_CORETYPE": "Haswell"},
    }
    text = page.page(facts, [SLOWER, replace(SLOWER, subject="new", bars=())], {"leaves": "roofline.png"})
    assert (
        "0 of 1 rows with a bar pass" in text and "![Utility and gradient](roofline.png)" in text and "## New" in text
    )
    assert "* leaves: small float32: shortfall" in text.split("## What falls short")[1]


@pytest.mark.parametrize(
    "found, options, code",
    [
        (replace(SLOWER, bars=()), [], 0),
        (SLOWER, [], 0),
        (SLOWER, ["--strict"], 1),
        (None, [], 1),
    ],
)
def test_exit_status(found, options, code, monkeypatch, capsys, tmp_path):
    """A wrong answer fails, a bar that is missed only where asked; the figures are kept either way."""
    monkeypatch.setattr(command, "run", lambda name: found and Outcome([found]))
    target = tmp_path / "rows.json"
    monkeypatch.setattr(sys, "argv", ["bench", "leaves", "--json", str(target), *options])
    assert command.main() == code
    data = json.loads(target.read_text())
    assert (
        data["failed"] == ([] if found else ["leaves"]) and len(data["rows"]) == bool(found) and data["machine"]["cpu"]
    )
    assert ("the answer was wrong" in capsys.readouterr().out) is (found is None)


def test_a_case_that_is_not_there(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["bench", "nonesuch"])
    with pytest.raises(SystemExit):
        command.main()
    assert "no case named nonesuch" in capsys.readouterr().err


def test_every_case_has_its_function():
    for case in CASES.values():
        module, _, function = case.function.partition(":")
        assert callable(getattr(importlib.import_module(module), function))


def test_probe():
    """A call in a process of its own, on as many cores as threads, and one whose library is not there."""
    with Probe("bench.passes:ours", 1) as probe:
        probe.prepare(shape=(20, 30))
        (gradient,) = probe.answer()
        X, y = design((20, 30))
        np.testing.assert_allclose(gradient, np.repeat(X.T @ y[:, None] / 20, 2, axis=1), rtol=1e-12)
        assert 0.0 < probe(10) < 1.0
    with Probe("bench.nonesuch:ours", 1) as probe, pytest.raises(RuntimeError, match="nonesuch"):
        probe.prepare()
