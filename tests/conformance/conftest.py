"""Makes the runner's own modules importable, from pytest as from the command line."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
