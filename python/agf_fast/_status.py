"""Why a run ended, and what to do about it."""

from __future__ import annotations

from enum import StrEnum

__all__ = ["Status"]


class Status(StrEnum):
    """Why a run ended. Each member equals its name as a string, and ``advice`` says what to do.

    Examples
    --------
    >>> import agf_fast as agf
    >>> agf.Status("max_jumps") == "max_jumps"
    True
    >>> print(agf.Status.MAX_JUMPS)
    max_jumps: stopped after max_jumps jumps; continue from path.state, or raise max_jumps
    """

    LOSS_TOL = "loss_tol"
    INERT = "inert"
    ALL_ACTIVE = "all_active"
    MAX_JUMPS = "max_jumps"
    MAX_SECONDS = "max_seconds"
    CALLBACK = "callback"
    INTERRUPTED = "interrupted"
    T_END = "t_end"
    NOTHING_TO_LEARN = "nothing_to_learn"
    WORK_LIMIT = "work_limit"
    NON_FINITE = "non_finite"
    FAILED = "failed"

    @property
    def advice(self) -> str:
        """What happened, and what to do."""
        return _ADVICE[self]

    def __str__(self) -> str:
        return f"{self.value}: {self.advice}"

    def __repr__(self) -> str:
        return f"<Status.{self.name}>"


_ADVICE = {
    Status.LOSS_TOL: "the loss fell to loss_tol, so all was learned; lower loss_tol to go on",
    Status.INERT: (
        "no dormant neuron can grow, every utility being at most zero with no way up; if the loss is still too high, "
        "try another seed, a larger width or another activation"
    ),
    Status.ALL_ACTIVE: "every neuron is active and the last phase is over; if the loss is too high, raise the width",
    Status.MAX_JUMPS: "stopped after max_jumps jumps; continue from path.state, or raise max_jumps",
    Status.MAX_SECONDS: "stopped after max_seconds; continue from path.state, or raise max_seconds",
    Status.CALLBACK: "the callback stopped the run; continue from path.state",
    Status.INTERRUPTED: "stopped by Ctrl-C, with all that was computed kept; continue from path.state",
    Status.T_END: "reached the end that was asked for; continue from path.state with a later one",
    Status.NOTHING_TO_LEARN: "the targets are zero everywhere, so no neuron has anything to learn; check Y",
    Status.WORK_LIMIT: (
        "a phase used up its work limit before equilibrium, often because the limit lies at infinity; set active_time "
        "to bound each active phase, or loosen rtol"
    ),
    Status.NON_FINITE: (
        "no finite step could be made, and all up to there is kept; for gradient_descent lower lr, otherwise check the "
        "scale of X and Y (E|x|^2 near 1 is best)"
    ),
    Status.FAILED: "the run of this member raised the error in its notes; run it by itself to see where",
}
