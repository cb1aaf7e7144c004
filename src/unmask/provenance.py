"""What made a result: the command line that repeats it, the versions of the libraries, the hashes of the files."""

import hashlib
import os
import platform
import re
import shlex
import sys
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import BinaryIO

from unmask._version import __version__

# It takes a word that begins with a dash apart at a dot or a colon.
_PLAIN_IN_POWERSHELL = re.compile(r"-?[A-Za-z0-9_/\\=+-]+|[A-Za-z0-9_./\\][A-Za-z0-9_./\\:=+-]*")
_BLOCK = 1024**2  # bytes


def shell_line(words: Iterable[str], system: str = sys.platform) -> str:
    """Quote words for the shell of a system: PowerShell on Windows, elsewhere one of POSIX.

    Bytes of file names that are not UTF-8, which POSIX knows, become $'\\xff' (bash, zsh, ksh).

    Args:
        words: a command and its arguments.
        system: as `sys.platform` calls it.
    """
    return " ".join(map(_for_powershell if system == "win32" else _for_posix, words))


def _for_posix(word: str) -> str:
    if not any("\udc80" <= letter <= "\udcff" for letter in word):
        return shlex.quote(word)
    text = word.replace("\\", "\\\\").replace("'", "\\'")
    return "$'" + "".join(f"\\x{ord(c) - 0xDC00:02x}" if "\udc80" <= c <= "\udcff" else c for c in text) + "'"


def _for_powershell(word: str) -> str:
    if _PLAIN_IN_POWERSHELL.fullmatch(word):
        return word
    # It takes typographic quotation marks for plain ones; two are one of them.
    return "'" + re.sub("(['\u2018-\u201b])", r"\1\1", word) + "'"


def library_versions(names: Iterable[str], *, unmask: bool = False) -> dict[str, str]:
    """Versions of Python and of installed distributions; those that are not installed are left out.

    Args:
        names: of distributions, as pip calls them.
        unmask: whether this package's own version comes first.
    """
    versions = {"unmask": __version__} if unmask else {}
    versions["python"] = platform.python_version()
    for name in names:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return versions


@dataclass(frozen=True)
class Machine:
    """What a machine is, without what names it or its user.

    Attributes:
        processor: its model, "unknown" where the system does not say.
        architecture: "x86_64", "arm64", …
        system: operating system with its version.
    """

    processor: str
    architecture: str
    system: str


@cache
def machine() -> Machine:
    """The machine that this runs on."""
    system = f"{platform.system()} {platform.release()}".strip()
    with suppress(OSError, AttributeError):  # elsewhere than on Linux
        name = platform.freedesktop_os_release().get("PRETTY_NAME")
        system = f"{system} ({name})" if name else system
    return Machine(_processor() or "unknown", platform.machine() or "unknown", system or "unknown")


def _processor() -> str:
    if sys.platform == "win32":
        return os.environ.get("PROCESSOR_IDENTIFIER", "")
    if sys.platform == "darwin":
        return platform.processor()
    with suppress(OSError), open("/proc/cpuinfo", encoding="utf-8", errors="replace") as lines:  # noqa: PTH123
        for line in lines:
            key, _, value = line.partition(":")
            if key.strip().lower() in ("model name", "hardware"):
                return value.strip()
    return ""


def utc_text(seconds: float | None = None) -> str:
    """A time in UTC, ISO 8601 with its offset, in whole seconds: "2026-11-30T18:01:20+00:00".

    Args:
        seconds: since 1970; now if left out.

    Raises:
        ValueError: the year is none of 1 to 9999.
    """
    try:
        moment = datetime.now(UTC) if seconds is None else datetime.fromtimestamp(seconds, UTC)
    except (OverflowError, OSError) as error:
        raise ValueError(f"no time of a calendar: {seconds}") from error
    return moment.isoformat(timespec="seconds")


def sha256_of(path: Path) -> str:
    """SHA-256 of a file, hexadecimal, read in blocks."""
    with path.open("rb") as stream:
        return sha256_of_stream(stream)


def sha256_of_stream(stream: BinaryIO) -> str:
    """SHA-256 of what is left of an open file, hexadecimal, read in blocks."""
    digest = hashlib.sha256()
    while block := stream.read(_BLOCK):
        digest.update(block)
    return digest.hexdigest()
