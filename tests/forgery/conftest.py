from importlib.util import find_spec
from pathlib import Path

# Detectors are made of torch: without the lab extra there is none to test.
_NO_TORCH = ("test_scoring.py",)
_OTHERS = [path.name for path in Path(__file__).parent.glob("test_*.py") if path.name not in _NO_TORCH]
collect_ignore = [] if find_spec("torch") else _OTHERS
