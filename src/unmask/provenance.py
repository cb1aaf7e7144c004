"""What made a result: the command line that repeats it, the versions of the libraries, the hashes of the files."""

import hashlib
import platform
import re
import shlex
import sys
from collections.abc import Iterable
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
