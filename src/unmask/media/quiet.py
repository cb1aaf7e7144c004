"""Keeping the decoders' chatter off the user's terminal, with as little reach into the process as will do."""

import contextlib
import logging
import os
import re
import tempfile
import threading
import warnings
from collections.abc import Iterator
from typing import IO

# Without a handler anywhere, Python would print what Pillow logs. Handlers that the program has set up still get it.
logging.getLogger("PIL").addHandler(logging.NullHandler())

_pillow_lock = threading.Lock()
_pillow_users = 0
_pillow_filters = contextlib.ExitStack()


@contextlib.contextmanager
def quiet_pillow() -> Iterator[None]:
    """Silence Python warnings raised inside Pillow and its plug-ins while at least one thread is in here.

    The filter names their modules only and is taken away when the last thread leaves; plain
    `warnings.catch_warnings` in several threads could leave it behind. Nothing else of Pillow's process-wide state is
    touched.
    """
    global _pillow_users
    with _pillow_lock:
        if _pillow_users == 0:
            _pillow_filters.enter_context(warnings.catch_warnings())
            warnings.filterwarnings("ignore", module=r"(?:PIL|pi_heif|pillow_jxl)(?:\.|$)")
        _pillow_users += 1
    try:
        yield
    finally:
        with _pillow_lock:
            _pillow_users -= 1
            if _pillow_users == 0:
                _pillow_filters.close()


# What OpenCV's logger, libjpeg (its warnings JWRN_*) and libtiff (the function's name) begin their lines with.
_LOG_LINE = re.compile(rb"\[ *(?:WARN|ERROR|INFO|DEBUG):")
_COMPLAINT = re.compile(
    rb"Corrupt JPEG data|Premature end of JPEG|Inconsistent progression|Invalid SOS parameters|Unknown Adobe color"
    rb"|Warning: unknown JFIF|Application transferred|Apparently should be"
    rb"|(?:tempfile\.tif|_?TIFF\w+|(?:Fax|InitCCITT|LZW|ZIP|PackBits|Dump|JPEG|OJPEG|WebP|ZSTD|LZMA|LERC|LogLuv|LogL16"
    rb"|PixarLog|Thunder|NeXT|Predictor|MissingRequired|Estimate|ChopUp|allocChopped|setByteArray|setExtra)\w*): "
)
_stderr_lock = threading.Lock()


@contextlib.contextmanager
def decoder_messages() -> Iterator[list[str]]:
    """Collect the complaints of libjpeg inside OpenCV and of libtiff inside Pillow about the data they decode.

    Both write them on file descriptor 2 and offer no other way to hear them. The list that is yielded is filled on
    leaving. Lines that are not the decoder's (another thread wrote in the same milliseconds) are passed on unchanged.
    One thread at a time: the complaints must belong to one picture.
    """
    messages: list[str] = []
    with _stderr_lock:
        try:
            terminal = os.dup(2)
        except OSError:  # no standard error at all: nothing to keep clean
            yield messages
            return
        try:
            with _scratch_file() as scratch:
                os.dup2(scratch.fileno(), 2)
                try:
                    yield messages
                finally:
                    os.dup2(terminal, 2)
                    scratch.seek(0)
                    for line in scratch:
                        if _COMPLAINT.match(line):
                            messages.append(line.decode("utf-8", "replace").strip())
                        elif not _LOG_LINE.match(line):
                            os.write(terminal, line)
        finally:
            os.close(terminal)


def _scratch_file() -> IO[bytes]:
    if hasattr(os, "memfd_create"):
        return os.fdopen(os.memfd_create("decoder-messages"), "w+b")
    return tempfile.TemporaryFile()
