from importlib.util import find_spec

import pytest

# The whole room needs the lab extra: without it there is nothing to collect.
collect_ignore_glob = [] if find_spec("torch") else ["*test_*.py"]


@pytest.fixture(scope="session")
def sface() -> None:
    """The weights that identities are compared with, fetched if they are not in the cache."""
    from unmask.errors import DataError
    from unmask.packs.assets import SFACE, fetch

    try:
        fetch(SFACE)
    except DataError as error:
        pytest.skip(str(error))
