"""Frozen cases, peers beside ours, answers asserted before they are timed: `python -m bench [case] [--json FILE]`."""
