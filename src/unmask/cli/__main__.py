"""`python -m unmask.cli`: the same as `unmask`."""

from unmask.cli import main

main()
