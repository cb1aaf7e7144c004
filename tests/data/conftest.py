from importlib.util import find_spec

# These import torch on top, so without the lab extra there is nothing to collect.
collect_ignore = [] if find_spec("torch") else ["test_resynthesis.py", "test_twins.py"]
