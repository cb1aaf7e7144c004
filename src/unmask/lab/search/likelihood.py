"""What a similarity of sketch and photo is worth: likelihood ratios, fitted on people who were never trained on.

"The photo shows who was drawn" against "it shows somebody else". Lab only: lir.
"""

from dataclasses import dataclass

import numpy as np
from lir.algorithms.logistic_regression import LogitCalibrator

from unmask.errors import DataError
from unmask.lab.metrics import log_lr_cost, log_lr_cost_min
from unmask.lab.search.config import SearchPaths
from unmask.lab.search.feed import SplitPictures
from unmask.lab.search.measuring import embed
from unmask.lab.search.task import SearchTask
from unmask.offline import temporary_font_list
from unmask.progress import Progress

with temporary_font_list():
    from lir.algorithms.bayeserror import elub

FEWEST = 10
"""People on either side, to fit and to measure."""
_POINTS = 21


@dataclass(frozen=True)
class ScoreRatios:
    """A table of likelihood ratios.

    Attributes:
        points: pairs of a cosine and a log10 likelihood ratio, ascending; linear between, constant beyond.
        cllr, cllr_min: on the people who were not fitted on.
        people: fitted on, and measured on.
    """

    points: tuple[tuple[float, float], ...]
    cllr: float
    cllr_min: float
    people: tuple[int, int]

    def log10(self, cosines: np.ndarray) -> np.ndarray:
        """Log10 likelihood ratios of cosines."""
        scores, ratios = np.array(self.points).T
        return np.interp(cosines, scores, ratios)


def fit_ratios(vectors: np.ndarray, split: SplitPictures, seed: int = 0) -> ScoreRatios:
    """Fit on one half of the people of a split, measure on the other.

    Args:
        vectors: unit, float32 (N, D), in the order of the items.
        split: sketches and photos of people whom the network never saw.
        seed: of the halves.

    Raises:
        DataError: fewer than `FEWEST` people in a half.
    """
    people = sorted({item.label for item in split.items})
    order = np.random.default_rng(seed).permutation(len(people))
    halves = [{people[place] for place in part} for part in np.array_split(order, 2)]
    if min(map(len, halves)) < FEWEST:
        raise DataError(f"{len(people)} people to fit likelihood ratios on; {2 * FEWEST} are needed, none trained on")
    (fitted, labels), (held, truth) = (_pairs(vectors, split, half) for half in halves)
    model = LogitCalibrator(C=10.0).fit(*_balanced(fitted, labels, np.random.default_rng(seed)))
    zero, one = (float(model.transform(np.array([x]))[0]) for x in (0.0, 1.0))
    slope = max(one - zero, 0.0)
    # Bounds from the pairs as they are: repeated ones would feign evidence.
    lower, upper = elub(zero + slope * fitted, labels)
    grid = np.linspace(float(fitted.min()), float(fitted.max()), _POINTS)
    ratios = np.clip(zero + slope * grid, lower, upper)
    points = tuple((round(float(x), 4), round(float(y), 4)) for x, y in zip(grid, ratios, strict=True))
    made = ScoreRatios(points, 0.0, 0.0, (len(halves[0]), len(halves[1])))
    values, both = _balanced(made.log10(held), truth, np.random.default_rng(seed))
    return ScoreRatios(
        points, round(log_lr_cost(both, values), 4), round(log_lr_cost_min(both, values), 4), made.people
    )


def _pairs(vectors: np.ndarray, split: SplitPictures, people: set[str]) -> tuple[np.ndarray, np.ndarray]:
    """Cosines of all sketches with all photos of some people, and 1 where both are of one."""
    sketches, photos = (
        [place for place in split.of(kind) if split.items[place].label in people] for kind in (True, False)
    )
    cosines = vectors[sketches] @ vectors[photos].T
    names = [np.array([split.items[place].label for place in places]) for places in (sketches, photos)]
    return cosines.ravel(), (names[0][:, None] == names[1]).ravel().astype(int)


def _balanced(values: np.ndarray, labels: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """As many of either label: those of one person repeated until they are as many as the others."""
    own, other = np.flatnonzero(labels == 1), np.flatnonzero(labels == 0)
    rows = np.concatenate([np.resize(rng.permutation(own), len(other)), other])
    return values[rows], labels[rows]


def dictionary_entry(ratios: ScoreRatios, name: str = "sketch") -> str:
    """The attribute of a data dictionary of `unmask trace`, TOML."""
    points = ", ".join(f"[{score:g}, {ratio:g}]" for score, ratio in ratios.points)
    lowest = min(ratio for _, ratio in ratios.points)
    return f'[attributes.{name}]\nkind = "score"\nlog10_lr = [{points}]\nunlisted_log10_lr = {lowest:g}\n'


def ratios_of(name: str, paths: SearchPaths, progress: Progress, seed: int = 0) -> ScoreRatios:
    """Likelihood ratios of a run or a pack, from the people of a set that it was not trained on.

    Args:
        name: a finished run's folder, or a pack by name or folder.
        paths: of the set, in the layout of pairs.
        progress: of the work.
        seed: of the halves that are fitted on and measured on.

    Raises:
        DataError: there is no such system, its classes are no people, or there are too few.
    """
    task = SearchTask()
    system = task.system(name)
    if not system.config.people:
        raise DataError(f"{name}: trained on classes of things; likelihood ratios are of people")
    split = task.pictures(system, paths, "test", progress)
    return fit_ratios(embed(system.vectors, split, progress, name), split, seed)
