from importlib.util import find_spec
from pathlib import Path

# Readers are made of torch: without the lab extra there is none to test.
_NO_TORCH = ("test_labels.py", "test_reading.py", "test_sequence_metrics.py")
_OTHERS = [path.name for path in Path(__file__).parent.glob("test_*.py") if path.name not in _NO_TORCH]
collect_ignore = [] if find_spec("torch") else _OTHERS
