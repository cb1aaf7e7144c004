"""Do three spatial scales in MMNet's memory help over one, where nothing else brings in the finer ones?

    PYTHONPATH=experiments python experiments/mmnet/scales.py RECORD.json --data DATA [--only-seed N...]

Earlier arms both kept the pyramid over strides 4 to 32 and the regions that it feeds, so that "one scale" saw the finer
ones too. Here neither arm has them: the memory holds the trunk's map at stride 32 alone, or those at strides 8, 16 and
32, and five tokens that are told nothing. Both read forward, backward and by slots, and are taught tokens, presence and
length; trunk with ImageNet's weights.

Rules, written before the runs. The arms are compared only if both tell parts better than nothing does: Adaptive
accuracy, in the mean over seeds, at least .1 above that of calling every face untouched; else they have learnt too
little, and the page says so. The claim is said to reproduce if the 95 % paired interval of the difference in Adaptive
accuracy, three scales less one, lies above 0; to be contradicted if it lies below; else this experiment does not decide
it. Adaptive decides, not CSM, which is near its floor after so few steps; CSM is shown. Expected beside it: a larger
gain on eyes and eyebrows than on hair.
"""

from pathlib import Path
from statistics import mean

import torch
from common import (
    Laps,
    Record,
    by_seed,
    has_record,
    minutes_of,
    one_thread,
    paired_table,
    parser,
    read_record,
    seeds_of,
    settings_of,
    without_record,
)
from mmnet.readers import BATCH, COUNT, PARTS, SIZE, TRUNK, faces_of, fitted, known_in, measured
from torch import Tensor, nn

from unmask.cli.options import progress_bars
from unmask.datasets.manifest import manifest_sha256
from unmask.edits.labels import LONGEST
from unmask.edits.mmnet import MMNet, Scales
from unmask.lab.edits.config import EditTrainConfig

TITLE = "MMNet: one scale or three"
ONE, THREE = "stride 32 alone", "strides 8, 16 and 32"
ARMS: dict[str, Scales] = {ONE: "coarse", THREE: "three"}
PLAIN = {"readers": "tokens", "masks": False, "recovery": False}
ADAPTIVE, FLOOR, LEARNT = "Adaptive, joint", "Adaptive, nothing", 0.1
METRICS = (ADAPTIVE, "CSM, joint", *(f"{part}, balanced" for part in PARTS))


class NoPyramid(nn.Module):
    """In the pyramid's place: nothing is seen at finer strides, and every region is told the same."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.channels = channels

    def forward(self, maps: list[Tensor], shown: Tensor) -> tuple[Tensor, Tensor]:
        """Features (B, C, 1, 1) and areas (B, 5, 1, 1) of zeros."""
        count = len(shown)
        return shown.new_zeros(count, self.channels, 1, 1), shown.new_zeros(count, LONGEST, 1, 1)


def network_of(name: str, seed: int) -> MMNet:
    """An arm's network before training."""
    torch.manual_seed(seed)
    network = MMNet(**TRUNK, **PLAIN, scales=ARMS[name])  # type: ignore[arg-type]
    network.pyramid = NoPyramid(network.regions.in_features)  # type: ignore[assignment]
    return network


def main() -> None:
    options = parser(__doc__ or "")
    by_seed(options)
    options.add_argument("--workers", type=int, default=2, help="processes that make and crop faces")
    options.set_defaults(steps=1200)
    chosen = options.parse_args()
    one_thread()
    with progress_bars() as progress:
        faces = faces_of(chosen, "both", progress)
    settings = settings_of(chosen, size=SIZE, count=COUNT, batch=BATCH, arms=ARMS, options=PLAIN)
    settings.pop("workers")
    record = Record(chosen.record, settings, manifest_sha256(faces.samples))
    training, laps = faces.split("train"), Laps()
    known = known_in(training)
    for seed in seeds_of(chosen):
        for name, scales in ARMS.items():
            if record.has(arm=name, seed=seed):
                continue
            config = EditTrainConfig(
                method="mmnet",
                options={**TRUNK, **PLAIN, "scales": scales},
                size=SIZE,
                steps=chosen.steps,
                batch=BATCH,
                seed=seed,
                known=known,
            )
            folder = f"scales-{scales}-{chosen.steps}-{seed}"
            network = fitted(chosen, folder, network_of(name, seed), training, config)
            record.add(arm=name, seed=seed, **measured(network, known, faces), **laps.lap())


# --- The page ---

TEXT = """## {title}

The memory of MMNet's readers holds the trunk's map at stride 32 alone, or those at strides 8, 16 and 32; neither arm
has the pyramid and the regions, which bring the finer strides in by another way. The set of the tables above,
{steps:,} steps of {batch} faces, trunk with ImageNet's weights, no recovery; {cost}. Compared if both arms' Adaptive
accuracy is at least {learnt} above that of calling every face untouched ({floor:.3f}): {verdict}. "Balanced": the mean
of the share of faces with an edit of the part that are said to have one, and of those without it that are not. In
brackets: the difference from the first line, seed by seed, with its 95 % interval.
"""


def section(root: Path) -> str:
    """What the record beside this script says; `root` is the repository's."""
    if not has_record(root, "mmnet/scales"):
        return without_record(TITLE)
    record = read_record(root, "mmnet/scales")
    rows = record["rows"]
    floor = mean(row[FLOOR] for row in rows)
    learnt = all(mean(row[ADAPTIVE] for row in rows if row["arm"] == arm) >= floor + LEARNT for arm in ARMS)
    verdict = "they are" if learnt else "they are not, so that nothing follows from the table"
    text = TEXT.format(
        **record["settings"], title=TITLE, cost=minutes_of(rows), learnt=LEARNT, floor=floor, verdict=verdict
    )
    return f"{text}\n{paired_table(sorted(rows, key=lambda row: list(ARMS).index(row['arm'])), METRICS, ONE)}\n"


if __name__ == "__main__":
    main()
