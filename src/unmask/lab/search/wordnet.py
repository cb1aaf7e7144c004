"""The semantic prior of SAKE and SBKA: how near classes are to those of ImageNet in WordNet.

Read from WordNet's own database files, `index.noun` and `data.noun` (format: wndb(5)); nouns alone are needed.
"""

import re
from collections import deque
from pathlib import Path

import numpy as np

from unmask.errors import DataError

LEAST = 0.2
"""Path similarities up to this count as none ([repo] of SAKE)."""
_FILES = ("index.noun", "data.noun")


class WordNet:
    """WordNet's nouns: synsets, by their offsets in `data.noun`, and what lies above them.

    Args:
        folder: with `index.noun` and `data.noun`.

    Raises:
        DataError: they are not there, or not of WordNet.
    """

    def __init__(self, folder: Path) -> None:
        for name in _FILES:
            if not (folder / name).is_file():
                raise DataError(
                    f"{folder}: no {name} there; give WordNet's database folder (Debian: wordnet-base, "
                    "/usr/share/wordnet), or leave --wordnet out for no semantic prior"
                )
        self._lemmas: dict[str, list[int]] = {}
        self._above: dict[int, list[int]] = {}
        try:
            for fields in _rows(folder / "index.noun"):
                count, pointers = int(fields[2]), int(fields[3])
                self._lemmas[fields[0]] = [int(one) for one in fields[6 + pointers :][:count]]
            for fields in _rows(folder / "data.noun"):
                words = int(fields[3], 16)
                start = 4 + 2 * words
                links = fields[start + 1 : start + 1 + 4 * int(fields[start])]
                self._above[int(fields[0])] = [
                    int(links[at + 1]) for at in range(0, len(links), 4) if links[at] in ("@", "@i")
                ]
        except (ValueError, IndexError) as error:
            raise DataError(f"{folder}: not WordNet's database files ({error}); install them anew") from error

    def synsets(self, name: str) -> list[int]:
        """The synsets of a class's name, the most frequent first; of several words, if there is none, of the last."""
        plain = re.sub(r"[\s-]+", "_", name.strip().casefold())
        for form in (plain, plain.replace("_", ""), plain.rpartition("_")[2]):
            for word in (form, form.removesuffix("s"), form.removesuffix("es")):
                if word in self._lemmas:
                    return self._lemmas[word]
        return []

    def distances_above(self, synset: int) -> dict[int, int]:
        """Every synset above one, itself included, with the number of steps to it."""
        steps, queue = {synset: 0}, deque([synset])
        while queue:
            one = queue.popleft()
            for upper in self._above.get(one, ()):
                if upper not in steps:
                    steps[upper] = steps[one] + 1
                    queue.append(upper)
        return steps


def semantic_prior(classes: tuple[str, ...], wordnet: WordNet) -> np.ndarray:
    """How near each class is to each of ImageNet's ([repo] of SAKE).

    Args:
        classes: names.
        wordnet: to look them up in.

    Returns:
        float32 (C, 1000): 1 where the synsets are equal or one lies above the other, else the path similarity if it is
        above `LEAST`, else 0. The row of a class that WordNet does not know is 0.
    """
    from timm.data import ImageNetInfo

    known = [int(name[1:]) for name in ImageNetInfo().label_names()]
    above = [wordnet.distances_above(one) for one in known]
    prior = np.zeros((len(classes), len(known)), np.float32)
    for row, name in enumerate(classes):
        for synset in wordnet.synsets(name)[:1]:
            own = wordnet.distances_above(synset)
            for column, (other, upper) in enumerate(zip(known, above, strict=True)):
                if other in own or synset in upper:
                    prior[row, column] = 1.0
                elif common := own.keys() & upper.keys():
                    near = 1 / (1 + min(own[each] + upper[each] for each in common))
                    prior[row, column] = near if near > LEAST else 0.0
    return prior


def _rows(path: Path) -> list[list[str]]:
    with path.open(encoding="utf-8", errors="replace") as stream:
        return [line.split() for line in stream if not line.startswith("  ")]
