"""Hooks of the documentation's site.

The pages are written to be read in the repository as well, and so link to files outside `docs/`: the README, sources,
records. On the site these files become pages below `project/`, and the links are bent to them.
"""

import posixpath
import re
from pathlib import Path, PurePosixPath
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parent.parent
OUTSIDE = "project"
"""The folder of the site that holds files from outside `docs/`."""
_LINK = re.compile(r"(!?\[[^\]]*\]\()([^)\s#:]+)(#[^)\s]*)?\)")
_CODE = re.compile(r"(^```.*?^```)", re.DOTALL | re.MULTILINE)
_LANGUAGES = {".py": "python", ".sh": "bash", ".json": "json", ".toml": "toml", ".yml": "yaml"}


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Expand the folders in the navigation."""
    config.nav = _expanded(config.nav, Path(config.docs_dir))
    return config


def _expanded(entry: Any, docs: Path) -> Any:
    if isinstance(entry, list):
        return [_expanded(one, docs) for one in entry]
    if isinstance(entry, dict):
        return {title: _expanded(value, docs) for title, value in entry.items()}
    if not entry.endswith("/"):
        return entry
    names = sorted(path.relative_to(docs).as_posix() for path in (docs / entry).glob("*.md"))
    return sorted(names, key=lambda name: not name.endswith("/index.md"))


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the files outside `docs/` that a page links to, and those that they link to in turn."""
    todo = [(f"docs/{file.src_uri}", Path(file.abs_src_path or "")) for file in files.documentation_pages()]
    known: set[str] = set()
    while todo:
        name, path = todo.pop()
        if path.suffix != ".md":
            continue
        for match in _LINK.finditer(_CODE.sub("", path.read_text(encoding="utf-8"))):
            target = _resolved(name, match[2])
            uri = _site_uri(target)
            if not uri.startswith(f"{OUTSIDE}/") or uri in known or not (ROOT / target).is_file():
                continue
            known.add(uri)
            files.append(File.generated(config, uri, content=_page(target)))
            todo.append((target, ROOT / target))
    return files


def on_page_markdown(markdown: str, page: Any, config: MkDocsConfig, files: Files) -> str:
    """Bend the links that lead out of `docs/`, or back into it."""
    uri = page.file.src_uri
    inside = not uri.startswith(f"{OUTSIDE}/")
    name = f"docs/{uri}" if inside else uri.removeprefix(f"{OUTSIDE}/")

    def bent(match: re.Match[str]) -> str:
        target = _site_uri(_resolved(name, match[2]))
        return f"{match[1]}{posixpath.relpath(target, PurePosixPath(uri).parent)}{match[3] or ''})"

    parts = _CODE.split(markdown)
    return "".join(part if number % 2 else _LINK.sub(bent, part) for number, part in enumerate(parts))


def _resolved(name: str, link: str) -> str:
    """The file in the repository that a link in one of its files means."""
    return posixpath.normpath(posixpath.join(posixpath.dirname(name), link))


def _site_uri(name: str) -> str:
    """Where a file of the repository stands among the site's sources."""
    if name.startswith("docs/"):
        return name.removeprefix("docs/")
    return f"{OUTSIDE}/{name}" if name.endswith(".md") else f"{OUTSIDE}/{name}.md"


def _page(name: str) -> str:
    """A file of the repository as a page: Markdown as it is, anything else as code."""
    text = (ROOT / name).read_text(encoding="utf-8")
    if name.endswith(".md"):
        return text
    language = _LANGUAGES.get(PurePosixPath(name).suffix, "text")
    return f"---\nsearch:\n  exclude: true\n---\n\n# {PurePosixPath(name).name}\n\n````{language}\n{text}\n````\n"
