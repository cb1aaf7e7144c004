from importlib.util import find_spec

# The whole room needs the lab extra: without it there is nothing to collect.
collect_ignore_glob = [] if find_spec("torch") else ["test_*.py"]
