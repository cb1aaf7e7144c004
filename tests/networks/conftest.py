from importlib.util import find_spec

# Networks are made of torch: without the lab extra there are none to test.
collect_ignore_glob = [] if find_spec("torch") else ["test_*.py"]
