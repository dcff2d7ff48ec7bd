"""Alternating gradient flows: how two-layer networks learn features one after another from small initial weights.

``Dense`` binds a network to data; ``alternating_gradient_flow``, ``gradient_flow`` and ``gradient_descent`` run it;
``Trajectory`` is what they return, ``Ensemble`` for many runs in one call. Loss and flow are L = 1/2 E|y - f|^2 and
dtheta/dt = -dL/dtheta everywhere.
"""

from __future__ import annotations

from . import _cuda_status as cuda
from ._attention import Attention
from ._backend import info, set_threads, version
from ._compare import Comparison, Match, compare
from ._dense import Dense
from ._descent import gradient_descent
from ._diagnostics import Diagnosis, KernelMovement, diagnose, kernel_movement
from ._diagonal import Diagonal
from ._ensemble import Ensemble
from ._files import load
from ._linear import Linear
from ._maxima import UtilityMaxima, utility_maxima
from ._modular import ModularAddition
from ._problem import Problem
from ._state import State
from ._status import Status
from ._sweep import Sweep, SweepTask, sweep
from ._theory import Theory
from ._trajectory import Jump, Record, Trajectory
from ._verbs import alternating_gradient_flow, gradient_flow

__version__ = version()

__all__ = [
    "Attention",
    "Comparison",
    "Dense",
    "Diagnosis",
    "Diagonal",
    "Ensemble",
    "Jump",
    "KernelMovement",
    "Linear",
    "Match",
    "ModularAddition",
    "Problem",
    "Record",
    "State",
    "Status",
    "Sweep",
    "SweepTask",
    "Theory",
    "Trajectory",
    "UtilityMaxima",
    "alternating_gradient_flow",
    "compare",
    "cuda",
    "diagnose",
    "gradient_descent",
    "gradient_flow",
    "info",
    "kernel_movement",
    "load",
    "set_threads",
    "sweep",
    "utility_maxima",
]
