"""The tests of the stand-ins, which lie beside the tests' own folders."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
