"""What all makers of ordered edits share: the layout of Seq-DeepFake, the draw of a sequence, the tool after each step.

OUT/TRACK/
  annotations/SPLIT.csv           file_path, label, original, mask, steps; SPLIT is train, val or test
  images/SPLIT/nose-eye-lip/N.png the result; "original" in place of the names if nothing was edited
  originals/SPLIT/K.png           the untouched face
  masks/SPLIT/N.png               grey, 255 where any step forged
  steps/SPLIT/N/1.png, 1-mask.png …  the picture after step 1, drawn anew, and where that step forged
OUT/record.jsonl                  one line a picture: how it was made
OUT/set.json                      what the set was asked to be: another set into the same folder is refused

Lab only: needs the "lab" extra.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal
from zlib import crc32

import numpy as np

from unmask import __version__
from unmask.edits.labels import LONGEST, Track, all_sequences
from unmask.errors import DataError
from unmask.forging.component_edits import Network, Resynthesis, ToolKind
from unmask.forging.set_record import open_record, png, write_whole
from unmask.forging.taef2_weights import taef2_sha256
from unmask.interruption import Interruption
from unmask.media.synthetic_mark import SourceType, band_height, mark, with_band
from unmask.progress import Progress
from unmask.tables import write_csv

Tools = Literal["both", "autoencoder", "classical", "none"]
TOOLS: tuple[Tools, ...] = ("both", "autoencoder", "classical", "none")
COLUMNS = ("file_path", "label", "original", "mask", "steps")
LAYOUT_SPLITS = {"train": "train", "val": "val", "cal": "val", "test": "test"}  # the layout knows three
Files = dict[str, bytes]
Row = dict[str, Any]


@dataclass(frozen=True)
class EditSet:
    """A set that was made: pictures by split and length, sources passed over, and splits without a picture."""

    folder: Path
    lengths: dict[str, dict[int, int]]
    skipped: tuple[tuple[str, str], ...]
    empty_splits: tuple[str, ...]
    people: int
    """How many different people there are."""


def check_parameters(seed: int, size: int, tools: str, held_out: float) -> None:
    """Refuse what no set can be made with.

    Raises:
        DataError: naming the remedy.
    """
    if seed < 0:
        raise DataError(f"seed {seed}: give a seed of 0 or more")
    if not 64 <= size <= 1024 or size % 16:
        raise DataError(f"size {size}: give a multiple of 16 from 64 to 1024")
    if tools not in TOOLS:
        raise DataError(f"tools {tools!r}: give one of {', '.join(TOOLS)}")
    if not 0 <= held_out <= 0.9:
        raise DataError(f"held out {held_out}: give a share from 0 to 0.9")


def write_set(
    out: Path,
    track: str,
    numbers: range,
    make: Callable[[Sequence[int]], Iterable[tuple[Files, Row]]],
    interruption: Interruption,
    stage: str,
    progress: Progress,
) -> list[Row]:
    """Make the pictures of a set that are not there yet, record them, and write the annotations, interrupted or not.

    Args:
        out: folder of the set.
        track: its name.
        numbers: of the pictures.
        make: from the numbers of some pictures to their files and their lines of the record.
        interruption: held back while a picture's files are written.
        stage: what is being done, for `progress`.
        progress: updated for every picture.

    Returns:
        The lines of the record.
    """
    with open_record(out, row_files) as record:
        finished = {int(row["number"]) for row in record.rows.values()}
        left = [number for number in numbers if number not in finished]
        done = len(numbers) - len(left)
        progress.update(stage, done, len(numbers))
        try:
            for files, row in make(left):
                with interruption.held_back():
                    for name, data in files.items():
                        write_whole(out / name, data)
                    record.add(row)
                done += 1
                progress.update(stage, done, len(numbers))
        finally:
            with interruption.held_back():
                rows = [row for row in record.rows.values() if row["number"] in numbers]
                write_annotations(out, track, rows)
    return rows


def summarise(
    out: Path, track: str, rows: Sequence[Row], people: int, skipped: Iterable[tuple[str, str]] = ()
) -> EditSet:
    """What was made, from the lines of a set's record."""
    lengths = {
        split: dict(sorted(Counter(sum(map(bool, row["label"])) for row in rows if row["split"] == split).items()))
        for split in ("train", "val", "test")
    }
    empty = tuple(split for split, counts in lengths.items() if not counts)
    return EditSet(out / track, lengths, tuple(skipped), empty, people)


def passes_of(rng: np.random.Generator, edits: int, tool: Resynthesis) -> int:
    """How often a picture goes through its tool: once an edit; without any, half of the time once to five times."""
    if edits or tool.kind == "none":
        return edits if tool.kind != "none" else 0
    return int(rng.integers(1, LONGEST + 1)) if rng.random() < 0.5 else 0


def row_of(
    track: Track,
    number: int,
    split: str,
    label: tuple[int, ...],
    original: str,
    held: bool,
    tool: Resynthesis,
    passes: int,
) -> Row:
    """What the record says of any picture: its names in the layout, its label and its tool."""
    name, names = f"{number:06d}", track.names(label)
    file = f"images/{split}/{'-'.join(names) or 'original'}/{name}.png"
    return {
        "path": f"{track.name}/{file}",
        "number": number,
        "track": track.name,
        "file": file,
        "label": list(label),
        "split": split,
        "original": f"originals/{split}/{original}.png",
        "mask": f"masks/{split}/{name}.png" if names else "",
        "steps": f"steps/{split}/{name}" if names else "",
        "held_out": held,
        "resynthesis": {**tool.parameters(), "passes": passes},
        "tool": f"unmask {__version__}",
    }


def files_of(row: Row, original: bytes, picture: bytes, steps: Sequence[tuple[bytes, np.ndarray]]) -> Files:
    """A picture's files by name, for its line of the record; `steps` are the pictures after each edit and its mask."""
    files = {row["original"]: original, row["file"]: picture}
    for step, (after, mask) in enumerate(steps, start=1):
        files[f"{row['steps']}/{step}.png"] = after
        files[f"{row['steps']}/{step}-mask.png"] = mask_png(mask)
    if steps:
        files[row["mask"]] = mask_png(np.maximum.reduce([mask for _, mask in steps]))
    return {f"{row['track']}/{path}": data for path, data in files.items()}


def banded(pixels: np.ndarray, text: str, source_type: SourceType | None = None) -> bytes:
    """A picture as a file, with its band and, if it is made, its source type."""
    encoded = png(with_band(pixels, text))
    return encoded if source_type is None else mark(encoded, source_type)


def held_out_orders(share: float, seed: int) -> frozenset[tuple[int, ...]]:
    """The sequences of two edits and more that are kept for the test split: `share` of those of each length."""
    rng = np.random.default_rng([seed, crc32(b"held out")])
    table = all_sequences()
    chosen: set[tuple[int, ...]] = set()
    for length in range(2, LONGEST + 1):
        rows = table[np.count_nonzero(table, axis=1) == length]
        some = rng.permutation(len(rows))[: round(share * len(rows))]
        chosen |= {tuple(int(number) for number in rows[row]) for row in some}
    return frozenset(chosen)


def write_seq_deepfake(rows: Iterable[Mapping[str, str]], path: Path) -> None:
    """Write an annotation file of Seq-DeepFake.

    Args:
        rows: `file_path` and `label` as the layout has them, and ours: `original`, `mask`, `steps`, or "".
        path: the .csv file.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    write_csv(path, COLUMNS, ([row.get(name, "") for name in COLUMNS] for row in rows))


def weights_for(tools: Tools, folder: Path | None) -> str | None:
    """SHA-256 of TAEF2's weights if some tools need them."""
    if tools not in ("both", "autoencoder"):
        return None
    return taef2_sha256(folder, f"--tools {tools}", "take --tools classical")


def row_files(row: Mapping[str, Any]) -> list[str]:
    """The files that a line of the record speaks of, relative to the set."""
    steps = range(1, np.count_nonzero(row["label"]) + 1)
    made = [f"{row['steps']}/{step}{end}.png" for step in steps for end in ("", "-mask")]
    return [f"{row['track']}/{name}" for name in (row["file"], row["original"], row["mask"], *made) if name]


def write_annotations(out: Path, track: str, rows: Iterable[Mapping[str, Any]]) -> None:
    """Write the annotation files of a set from the lines of its record."""
    by_split: dict[str, list[dict[str, str]]] = {}
    for row in sorted(rows, key=lambda row: int(row["number"])):
        paths = {name: f"{track}/{row[name]}" if row[name] else "" for name in ("original", "mask", "steps")}
        line = {"file_path": f"{track}/{row['file']}", "label": str(list(row["label"])), **paths}
        by_split.setdefault(row["split"], []).append(line)
    for split, lines in by_split.items():
        write_seq_deepfake(lines, out / track / "annotations" / f"{split}.csv")


def draw_tool(rng: np.random.Generator, tools: Tools, network: Network | None) -> Resynthesis:
    """What draws one picture's face anew after every step."""
    kinds: tuple[ToolKind, ...] = ("autoencoder", "classical") if tools == "both" else (tools,)
    return Resynthesis.draw(rng, kinds[int(rng.integers(len(kinds)))], network)


def draw_numbers(rng: np.random.Generator, numbers: Iterable[int], held: frozenset[tuple[int, ...]]) -> tuple[int, ...]:
    """A sequence of some edits: every length is as likely as any other, then every order but those held out.

    Where all orders of a length are held out, as can happen to a face without hair, it gets a shorter one.
    """
    own = {0, *numbers}
    possible = [row for row in map(tuple, all_sequences().tolist()) if own >= set(row) and row not in held]
    length = int(rng.integers(0, len(own)))
    while True:
        some = [row for row in possible if sum(map(bool, row)) == length]
        if some:
            return some[int(rng.integers(len(some)))]
        length -= 1


def mask_png(mask: np.ndarray) -> bytes:
    """A mask (S, S) in [0, 1] as a file, nothing in the band."""
    grey = np.round(np.clip(mask, 0, 1) * 255).astype(np.uint8)
    return png(np.pad(grey, ((band_height(len(mask)), 0), (0, 0))))


def taef2_network(folder: Path) -> Network:
    """TAEF2 as `Resynthesis` calls it; one thread, for there is one worker a core."""
    import torch

    from unmask.forging.autoencoders import Taef2

    torch.set_num_threads(1)
    net = Taef2(folder).eval().to(memory_format=torch.channels_last)

    @torch.no_grad()
    def redraw(pixels: np.ndarray, jitter: float, seed: int) -> np.ndarray:
        batch = torch.from_numpy(np.ascontiguousarray(pixels)).permute(2, 0, 1)[None].float() / 255
        drawn = net(batch.contiguous(memory_format=torch.channels_last), jitter, torch.Generator().manual_seed(seed))[0]
        return (drawn.clamp(0, 1) * 255 + 0.5).byte().permute(1, 2, 0).numpy()

    return redraw
