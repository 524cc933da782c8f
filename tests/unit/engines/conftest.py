"""The tests of adapters: `stand_ins` for engines that cannot be installed here."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
