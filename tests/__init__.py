"""The tests; to them and the processes that they start the learner of `brought` is installed."""

import os
import sys
from pathlib import Path

BROUGHT = Path(__file__).parent / "brought"

sys.path.append(str(BROUGHT))
os.environ["PYTHONPATH"] = os.pathsep.join(
    filter(None, [os.environ.get("PYTHONPATH"), str(BROUGHT)])
)
