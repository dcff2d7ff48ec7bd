"""The mathematics of agf_fast in plain NumPy and SciPy: the oracle of the tests, and ``backend="numpy"``.

Written to be read beside the theory, not to be fast. One identity carries it: -dL/dtheta_i = grad U(theta_i; r), so the
leaves of `Dense` serve the dormant phase (r frozen, on the sphere), the active phase (r refreshed) and the whole flow.
"""

from .._flow_jumps import flow_jumps
from ._dense import Dense
from ._diagonal import Diagonal
from ._factories import dense, diagonal, modular
from ._modular import ModularAddition
from ._moments import attention_kernel, attention_samples_kernel, linear_kernel
from .engine import alternating_gradient_flow, gradient_flow

__all__ = [
    "Dense",
    "Diagonal",
    "ModularAddition",
    "alternating_gradient_flow",
    "attention_kernel",
    "attention_samples_kernel",
    "dense",
    "diagonal",
    "flow_jumps",
    "gradient_flow",
    "linear_kernel",
    "modular",
]
