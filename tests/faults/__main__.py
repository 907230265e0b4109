"""``python -m tests.faults --seed 17 --faults 40``: a run by hand."""

import runpy
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
runpy.run_module("faults.by_hand", run_name="__main__")
