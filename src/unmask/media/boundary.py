"""The one place where a third-party decoder may raise anything at all."""

import contextlib
from collections.abc import Iterator

from PIL.Image import DecompressionBombError

from unmask.errors import RefusalCode, Refused


@contextlib.contextmanager
def decoder_boundary(sentence: str) -> Iterator[None]:
    """Turn whatever a decoder raises into `Refused`: TOO_LARGE if it lacked memory, else CORRUPT with `sentence`.

    Decoders raise almost every built-in exception on hostile bytes (struct, index, key, value, arithmetic errors), and
    each of them means the same: these bytes are not a picture. Hence the bare `Exception` here, and nowhere else.
    """
    try:
        yield
    except Refused:
        raise
    except (MemoryError, DecompressionBombError) as error:
        raise Refused(RefusalCode.TOO_LARGE, "Decoding it would need too much memory.") from error
    except Exception as error:
        raise Refused(RefusalCode.CORRUPT, sentence) from error
