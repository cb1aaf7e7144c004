from importlib.util import find_spec

# Detectors are made of torch: without the lab extra there is none to test.
collect_ignore = [] if find_spec("torch") else ["test_detectors.py", "test_plain.py"]
