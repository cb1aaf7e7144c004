"""Write everything in the documentation that is generated: `python docs/build.py`.

Needs the extras federated and redteam.

Whole pages: results, methods, model packs, families. Paragraphs inside hand-written pages: whatever stands between the
markers `<!-- begin: NAME -->` and `<!-- end: NAME -->`. All of it comes from the cards of the embedded packs, the
records of the experiments and the docstrings of the methods' modules, so that no number is written down twice. A test
runs `outputs` and compares.
"""

import re
import sys
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "docs"), str(ROOT / "experiments")]

import pages  # noqa: E402
import paragraphs  # noqa: E402
import results  # noqa: E402
from leaderboard import page as leaderboard  # noqa: E402

GENERATED = ("docs/results", "docs/methods", "docs/packs", "docs/data")
"""Folders that hold generated pages alone; a page there that nothing generates any more is removed."""
WITH_PARAGRAPHS = ("README.md", "docs/case.md", "docs/search.md", "docs/sequences.md", "docs/tracing.md")
_BLOCK = re.compile(r"(<!-- begin: ([\w-]+) -->\n).*?(<!-- end: \2 -->)", re.DOTALL)


def filled(text: str, made: Mapping[str, str]) -> str:
    """A page with the text between its markers replaced.

    Args:
        text: the page.
        made: the generated paragraphs by the name in their markers.

    Raises:
        KeyError: a marker names a paragraph that is not generated.
    """
    return _BLOCK.sub(lambda match: f"{match[1]}{made[match[2]].strip()}\n{match[3]}", text)


def outputs(root: Path = ROOT) -> dict[Path, str]:
    """Every file that is generated, whole or in part, by its path below `root`."""
    texts = results.pages(root) | pages.method_pages(root) | pages.pack_pages(root) | pages.data_pages(root)
    made = paragraphs.paragraphs(root)
    for name in WITH_PARAGRAPHS:
        texts[Path(name)] = filled((root / name).read_text(encoding="utf-8"), made)
    return texts


def stale(texts: Mapping[Path, str], root: Path = ROOT) -> list[Path]:
    """Pages in the generated folders that are generated no longer."""
    there = [path.relative_to(root) for folder in GENERATED for path in (root / folder).glob("*.md")]
    return sorted(path for path in there if path not in texts)


def main() -> None:
    """Write the files, remove stale ones, draw the leaderboard's picture."""
    texts = outputs()
    for path in stale(texts):
        (ROOT / path).unlink()
    for path, text in texts.items():
        (ROOT / path).parent.mkdir(parents=True, exist_ok=True)
        (ROOT / path).write_text(text, encoding="utf-8")
    leaderboard.draw(ROOT)


if __name__ == "__main__":
    main()
