"""How an extra is installed here: the line depends on where this installation came from."""

import json
import re
import shlex
import sys
from importlib import metadata
from pathlib import Path
from urllib.parse import unquote, urlsplit
from urllib.request import url2pathname

_OF_EXTRA = re.compile(r"""^(?P<requirement>[^;]+);\s*extra\s*==\s*['"](?P<extra>[\w-]+)['"]\s*$""")
_OWN = re.compile(r"^unmask\[(?P<extras>[\w,\s-]+)\]")


def install_line(extra: str) -> str:
    """The command that installs an extra of this installation.

    An installation from a folder names the folder, if it is still there, or else the libraries of the extra; one from a
    repository names that; one from an index the name alone.

    Args:
        extra: of `pyproject.toml`.

    Returns:
        A line for the shell; `pip` is that of the Python that runs.
    """
    pip = "pip" if sys.prefix != sys.base_prefix else f"{_quoted(sys.executable)} -m pip"
    try:
        direct = metadata.distribution("unmask").read_text("direct_url.json")
    except metadata.PackageNotFoundError:  # run from a checkout that is not installed
        return f"{pip} install {_quoted(f'{Path(__file__).resolve().parents[2]}[{extra}]')}"
    if direct is None:
        return f'{pip} install "unmask[{extra}]"'
    origin = json.loads(direct)
    url = urlsplit(origin["url"])
    if url.scheme != "file":
        vcs = origin.get("vcs_info")
        where = f"{vcs['vcs']}+{origin['url']}@{vcs['commit_id']}" if vcs else origin["url"]
        return f'{pip} install "unmask[{extra}] @ {where}"'
    folder = Path(url2pathname(unquote(url.path)))
    if (folder / "pyproject.toml").is_file():
        editable = "-e " if origin.get("dir_info", {}).get("editable") else ""
        return f"{pip} install {editable}{_quoted(f'{folder}[{extra}]')}"
    return f"{pip} install {' '.join(map(_quoted, requirements_of(extra)))}"


def requirements_of(extra: str) -> list[str]:
    """The libraries of an extra and of the extras that it is made of, with their ranges of versions."""
    wanted: dict[str, None] = {}
    for line in metadata.requires("unmask") or ():
        match = _OF_EXTRA.match(line)
        if match is None or match["extra"] != extra:
            continue
        requirement = match["requirement"].strip()
        own = _OWN.match(requirement)
        if own is None:
            wanted[requirement] = None
            continue
        for name in own["extras"].split(","):
            wanted |= dict.fromkeys(requirements_of(name.strip()))
    return list(wanted)


def _quoted(word: str) -> str:
    return f'"{word}"' if sys.platform == "win32" else shlex.quote(word)
