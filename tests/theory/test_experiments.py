"""Every experiment of `agf reproduce` shows what it must, and can draw it."""

from __future__ import annotations

import importlib
import io

import pytest

from agf_fast.reproduce import NAMES, Setup, find
from agf_fast.reproduce._style import style


@pytest.mark.parametrize("name", NAMES)
def test_shows_what_it_must(name, threads):
    threads(1)
    experiment = find(name)
    result = experiment.compute(Setup(small=True))
    assert result.checks and result.tables and result.facts
    assert result.passed, str(result)
    pytest.importorskip("matplotlib")
    with style():
        figures = experiment.draw(result)
        assert figures
        for figure in figures.values():
            figure.savefig(io.BytesIO(), format="png", dpi=40)


def test_files_are_named_for_their_experiments():
    for name in NAMES:
        assert importlib.import_module(f"agf_fast.reproduce.{name.replace('-', '_')}").EXPERIMENT.name == name
