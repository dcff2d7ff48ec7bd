"""``python -m agf_fast`` is the command ``agf``."""

import sys

from ._cli import main

sys.exit(main())
