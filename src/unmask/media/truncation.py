"""Pictures that are cut short are refused, whatever other libraries have set in Pillow."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from PIL import ImageFile

_NAME = "LOAD_TRUNCATED_IMAGES"
_Result = TypeVar("_Result")
_lock = threading.Lock()
_users = 0
_here = threading.local()


class _ByThread:
    """What stands for Pillow's setting meanwhile: false in threads that decode here, in others what it was."""

    def __init__(self, elsewhere: Any) -> None:
        self.elsewhere = elsewhere

    def __bool__(self) -> bool:
        return not getattr(_here, "decoding", False) and bool(self.elsewhere)


def refusing_truncated(decode: Callable[[], _Result]) -> _Result:
    """Decode with Pillow as if nobody had it accept pictures that are cut short.

    Pillow has one setting for the whole process, `ImageFile.LOAD_TRUNCATED_IMAGES`, which other libraries set when they
    are imported (WeasyPrint). Other threads see it as they set it, also meanwhile, and it is left as it was.

    Args:
        decode: called once, or again if somebody set it meanwhile.

    Returns:
        What `decode` returns. What it raises is raised.
    """
    while True:
        with _guarded() as is_guarded:
            result = decode()
            if is_guarded():
                return result


@contextmanager
def _guarded() -> Iterator[Callable[[], bool]]:
    """Yields what tells whether the guard still stands."""
    global _users
    with _lock:
        guard = getattr(ImageFile, _NAME)
        if not isinstance(guard, _ByThread):
            guard = _ByThread(guard)
            setattr(ImageFile, _NAME, guard)
        _users += 1
    _here.decoding = True
    try:
        yield lambda: getattr(ImageFile, _NAME) is guard
    finally:
        _here.decoding = False
        with _lock:
            _users -= 1
            now = getattr(ImageFile, _NAME)
            if not _users and isinstance(now, _ByThread):
                setattr(ImageFile, _NAME, now.elsewhere)
