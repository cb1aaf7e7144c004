"""Many files, many machines: Ray Data hands them to worker processes. Imported only when it is asked for."""

import logging
import os
import pickle
import secrets
import sys
import tempfile
from collections import deque
from collections.abc import Generator, Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from unmask.errors import MissingExtraError, Refused, UnmaskError
from unmask.inspection.batch import Batch
from unmask.inspection.inspector import Inspection, Inspector, TakenIn
from unmask.inspection.options import InspectorOptions
from unmask.media.sources import RefusedSource, Source

_AHEAD = 4096  # files that one data set of Ray's holds: none is named further ahead, however many there are
_BLOCK = 8  # files that a worker takes at a time

_ALONE = {
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # on every system: it listens at the loopback address alone
    "RAY_AUTH_MODE": "token",  # and to nobody else of this machine
    "RAY_BACKEND_LOG_LEVEL": "fatal",
}
"""What makes a cluster of this machine private: whoever can speak to one can have it run anything."""

_Item = Source | TakenIn | RefusedSource


@dataclass
class RayBatch:
    """How to inspect many files with the workers of a Ray cluster; results are those of `Batch`, in the same order.

    The cluster is the one that `RAY_ADDRESS` names, or that this program has joined, or else one of this machine alone,
    which ends with the run. It has one worker for each of its CPUs. Every machine needs the same version of unmask, and
    sees the files, and packs that are folders, under the same paths.

    `pictures` as in `Inspector.examine`.
    """

    inspector: Inspector
    pictures: bool = False

    def run(self, sources: Iterable[_Item | None]) -> Generator[Inspection, None, None]:
        """Inspect the sources, which are read no more than some thousand ahead. Close the iterator to end the workers.

        Args:
            sources: as for `Batch.run`, without None.

        Raises:
            MissingExtraError: Ray is not installed.
            UnmaskError: Ray cannot start, or one of its workers failed.
        """
        items = (source for source in sources if source is not None)
        with ExitStack() as stack:
            ray = _started(stack)
            while some := list(islice(items, _AHEAD)):
                results = self._inspected(ray, [item for item in some if _needs_a_worker(item)])
                for item in some:
                    if isinstance(item, RefusedSource):
                        yield Inspection(self.inspector.refuse(item, item.refusal))
                    elif isinstance(item, TakenIn) and isinstance(item.media, Refused):
                        yield self.inspector.examine_taken_in(item)
                    else:
                        yield next(results)

    def _inspected(self, ray: Any, items: list[_Item]) -> Iterator[Inspection]:
        if not items:
            return
        workers = min(len(items), max(1, int(ray.cluster_resources().get("CPU", 1))))
        rows = [{"item": pickle.dumps(item)} for item in items]
        blocks = min(len(items), max(workers, -(-len(items) // _BLOCK)))
        done = ray.data.from_items(rows, override_num_blocks=blocks).map(
            _Worker,
            fn_constructor_args=(str(Path.cwd()), self.inspector.options, self.pictures),
            compute=ray.data.ActorPoolStrategy(min_size=1, max_size=workers),
            num_cpus=1,
        )
        try:
            for row in done.iter_rows():
                yield pickle.loads(row["inspection"])
        except (ray.exceptions.RayError, OSError, ValueError) as error:
            raise UnmaskError(
                f"a worker of Ray failed ({_reason(error)}): see that every machine has this version of unmask and "
                "sees the files and packs under the same paths"
            ) from error


class _Worker:
    """What a process of Ray does: it has a file inspected by a process of its own, whose crash costs that file."""

    def __init__(self, folder: str, options: InspectorOptions, pictures: bool) -> None:
        os.chdir(folder)  # paths may be relative
        self._items: deque[_Item] = deque()
        self._results = Batch(Inspector(**asdict(options)), 1, pictures).run(self._given())

    def _given(self) -> Iterator[Any]:
        while True:
            yield self._items.popleft() if self._items else None

    def __call__(self, row: dict[str, Any]) -> dict[str, bytes]:
        self._items.append(pickle.loads(row["item"]))
        return {"inspection": pickle.dumps(next(self._results))}


def _needs_a_worker(item: _Item) -> bool:
    return not isinstance(item, RefusedSource) and not (isinstance(item, TakenIn) and isinstance(item.media, Refused))


def _started(stack: ExitStack) -> Any:
    """Ray, joined or started; what was started here ends with `stack`.

    Raises:
        MissingExtraError: it is not installed.
        UnmaskError: it cannot start.
    """
    loaded = sys.modules.get("ray")
    joins = "RAY_ADDRESS" in os.environ or (loaded is not None and loaded.is_initialized())
    if not joins:
        _set(stack, _ALONE | {"RAY_AUTH_TOKEN": secrets.token_hex(32)})  # Ray reads them when it is imported
    try:
        import ray
        import ray.data
    except ImportError as error:
        raise MissingExtraError("ray", "--engine ray") from error
    if not ray.is_initialized():
        how: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
        home: dict[str, str] = {}
        if not joins:
            place = "/tmp" if os.name == "posix" else None  # a socket's path has a hundred characters at most
            folder = tempfile.TemporaryDirectory(prefix="ray-", dir=place, ignore_cleanup_errors=True)
            how |= {"address": "local", "include_dashboard": False, "_temp_dir": stack.enter_context(folder)}
            # Without this file, Ray asks 169.254.169.254 in which cloud it runs, even if it reports nothing.
            Path(folder.name, "ray_bootstrap_config.yaml").write_text("{}\n", encoding="utf-8")
            home = dict.fromkeys(("HOME", "USERPROFILE"), folder.name)
        stack.callback(ray.shutdown)
        try:
            with _native_messages_dropped(), ExitStack() as start:
                _set(start, home)
                ray.init(**how)
        except (ray.exceptions.RayError, ConnectionError, OSError, RuntimeError, ValueError) as error:
            remedy = "see that the cluster of RAY_ADDRESS runs" if joins else "leave --engine out and give --jobs"
            raise UnmaskError(f"Ray cannot start ({_reason(error)}): {remedy}") from error
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.execution_options.preserve_order = True
    return ray


def _set(stack: ExitStack, variables: dict[str, str]) -> None:
    """Set variables of the environment, and set them back when `stack` ends."""
    for name, value in variables.items():
        before = os.environ.get(name)
        os.environ[name] = value
        if before is None:
            stack.callback(os.environ.pop, name, None)
        else:
            stack.callback(os.environ.__setitem__, name, before)


@contextmanager
def _native_messages_dropped() -> Iterator[None]:
    """Without what Ray's C++ parts write on file descriptor 2 while they start, whatever log level is set."""
    terminal = os.dup(2)
    try:
        with open(os.devnull, "wb") as nowhere:  # noqa: PTH123
            os.dup2(nowhere.fileno(), 2)
        yield
    finally:
        os.dup2(terminal, 2)
        os.close(terminal)


def _reason(error: BaseException) -> str:
    """What went wrong, in one line: the last of a worker's traceback."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    with suppress(IndexError):
        return lines[-1][:300]
    return type(error).__name__
