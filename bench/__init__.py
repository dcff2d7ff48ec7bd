"""Frozen cases, peers beside ours, answers asserted before anything is timed: `python -m bench [case ...] [--json FILE]`."""
