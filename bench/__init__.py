"""Frozen cases, peers beside ours, answers asserted before they are timed: `python -m bench [case ...]`.

`rows` says what a figure is and judges it against its bar, `catalogue` lists the cases, `probe` samples a call in a
process of its own; `page` draws docs/performance.md from saved figures, `compare` sets two installs side by side."""
