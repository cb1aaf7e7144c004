from importlib.util import find_spec

# The whole room needs the extra "federated": without it there is nothing to collect.
collect_ignore_glob = [] if find_spec("torch") and find_spec("flwr") else ["*test_*.py"]
