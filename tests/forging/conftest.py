from importlib.util import find_spec

# Autoencoders are made of torch: without the lab extra there are none to test.
collect_ignore = [] if find_spec("torch") else ["test_autoencoders.py"]
