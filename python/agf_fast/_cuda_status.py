"""Whether arrays on a GPU can be used; asking touches no GPU and loads no library."""

from __future__ import annotations

__all__ = ["is_available", "why"]


def is_available() -> bool:
    """Whether this build can compute on a CUDA device.

    Returns
    -------
    bool
        False: this build holds no CUDA backend.

    Examples
    --------
    >>> import agf_fast as agf
    >>> agf.cuda.is_available()
    False
    """
    return False


def why() -> str:
    """The reason for what ``is_available`` says, as half a sentence.

    Returns
    -------
    str
        What is missing.

    Examples
    --------
    >>> import agf_fast as agf
    >>> agf.cuda.why()
    'this build of agf_fast has no CUDA backend'
    """
    return "this build of agf_fast has no CUDA backend"
