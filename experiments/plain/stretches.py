"""Made videos that are authentic, forged throughout, or forged from a to b: is the stretch named, and where?

    PYTHONPATH=experiments python experiments/plain/stretches.py RECORD.json [--data DATA] [--work DIR] [--ship]

A video shows one person: pictures of that person one after the other, each for 1.2 to 2 s with a short cross-fade,
under one slow movement (shift, zoom, turn, brightness) with noise, at 5 frames a second, H.264 of a drawn quality. The
forged one is made of the forged counterparts of the same pictures, aligned pixel by pixel; the partly forged one shows
them from a to b. Persons are those of the split. Pairs: frames of the face-swap and of the edited videos of the
collection; portraits with a swap by another person's face, a blend with itself, or a mouth drawn anew
(`unmask.forging`). Videos of people who talk have no forged counterpart, and are authentic throughout.

Each goes through the whole pipeline. The statistic of a track is that of `unmask.inspection.stretches`: the highest
contrast, over all stretches, between the mean logit inside and outside. The rule of the choice, written before the run:
the spread is the median, over the authentic videos of the validation split, of the standard deviation of their logits;
the limit is the highest statistic of any of them, so that a stretch is named in none. Both are then measured once on
the test split. `--ship` writes them on the embedded pack's card; without `--data` that is all it does.
"""

import argparse
import json
import math
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
from common import command, read_record, share_interval, write_record

import unmask.packs
from unmask.cli.options import progress_bars
from unmask.datasets.layouts.collection import load_collection
from unmask.datasets.manifest import Sample, manifest_sha256
from unmask.forging.blending import self_blend, swap_face
from unmask.forging.lips import resynthesise_lips
from unmask.forging.source_faces import face_finder
from unmask.inspection import Inspector
from unmask.inspection.options import DETECTOR
from unmask.inspection.stretches import ScannedStretch, scan
from unmask.lab.run import versions
from unmask.media.sources import Source
from unmask.packs import Card
from unmask.packs.card import StretchLimit
from unmask.tables import markdown

RATE, SIDE = 5, 256  # frames a second, as many as are looked at, and pixels
SECONDS = (6.0, 12.0, 24.0)
PAIRED = ("dfl_faceswap", "stylegan3_edit")
TALKING = ("real_talking", "wav2lip", "dfl_faceswap", "stylegan3_edit")
PORTRAITS = ("ffhq", "celebamask", "ciplab")
MAKERS = ("swap", "selfblend", "lips")
VIDEOS = {"val": {"authentic": 45, "part": 24, "forged": 6}, "test": {"authentic": 75, "part": 36, "forged": 9}}

Pair = tuple[np.ndarray, np.ndarray]


def clips(samples: Sequence[Sample], split: str, label: int, source: str) -> dict[str, list[str]]:
    """Pictures of every clip of a source, in their order."""
    by_clip = defaultdict(list)
    for sample in samples:
        if sample.split == split and sample.label == label and sample.source == source:
            by_clip[Path(sample.path).stem.rpartition("_f")[0]].append(sample.path)
    return {clip: sorted(paths) for clip, paths in sorted(by_clip.items())}


def read(path: str) -> np.ndarray:
    """A picture, uint8 (SIDE, SIDE, 3) RGB: its middle square."""
    pixels = cv2.imread(path)
    side = min(pixels.shape[:2])
    top, left = ((length - side) // 2 for length in pixels.shape[:2])
    return np.ascontiguousarray(cv2.resize(pixels[top : top + side, left : left + side], (SIDE, SIDE))[..., ::-1])


class Persons:
    """Draws persons of a split: their pictures, real and forged."""

    def __init__(self, samples: Sequence[Sample], split: str) -> None:
        self.pairs = []
        for source in PAIRED:
            forged = clips(samples, split, 1, source)
            for clip, paths in clips(samples, split, 0, source).items():
                there = {Path(path).name: path for path in forged.get(clip, [])}
                both = [(path, there[Path(path).name]) for path in paths if Path(path).name in there]
                if len(both) >= 4:
                    self.pairs.append((source, both))
        self.talking = [
            (s, paths) for s in TALKING for paths in clips(samples, split, 0, s).values() if len(paths) >= 4
        ]
        self.portraits = [s.path for s in samples if s.split == split and not s.label and s.source in PORTRAITS]
        self._find = face_finder()

    def forgeable(self, rng: np.random.Generator) -> tuple[str, list[Pair]]:
        """Pictures of one person and their forged counterparts."""
        if rng.random() < 0.4:
            source, both = self.pairs[rng.integers(len(self.pairs))]
            return source, [(read(real), read(forged)) for real, forged in both]
        while True:
            maker = MAKERS[rng.integers(len(MAKERS))]
            faces = [read(self.portraits[place]) for place in rng.choice(len(self.portraits), 2, replace=False)]
            seen = [self._find(face) for face in faces]
            if seen[0] is None or seen[1] is None:
                continue
            if maker == "swap":
                forged, _ = swap_face(rng, faces[0], seen[0].mesh, faces[1], seen[1].mesh)
            elif maker == "selfblend":
                forged, _ = self_blend(rng, faces[0], seen[0].mesh)
            else:
                forged, _ = resynthesise_lips(rng, faces[0], seen[0].mesh)
            return maker, [(faces[0], forged)]

    def authentic(self, rng: np.random.Generator) -> tuple[str, list[Pair]]:
        """Pictures of one person; half of them talk."""
        if rng.random() < 0.5:
            source, paths = self.talking[rng.integers(len(self.talking))]
            return source, [(picture, picture) for picture in map(read, paths)]
        picture = read(self.portraits[rng.integers(len(self.portraits))])
        return "portrait", [(picture, picture)]


def shown(rng: np.random.Generator, seconds: float, pictures: int) -> Iterator[tuple[int, int, float]]:
    """For every frame two pictures and the second one's share."""
    fade = 0.2
    order = [*range(pictures), *range(pictures - 2, 0, -1)]
    change, place = float(rng.uniform(1.2, 2.0)), 0
    for frame in range(round(seconds * RATE)):
        time = frame / RATE
        if time >= change + fade:
            change, place = time + float(rng.uniform(1.0, 1.8)), place + 1
        share = min(1.0, max(0.0, (time - change) / fade)) if len(order) > 1 else 0.0
        yield order[place % len(order)], order[(place + 1) % len(order)], share


def movement(rng: np.random.Generator, seconds: float) -> Callable[[float], tuple[np.ndarray, float]]:
    """A slow movement of the camera: by time the matrix (2, 3) and a gain."""
    waves = [
        [(rng.uniform(0, 2 * math.pi), 2 * math.pi / rng.uniform(2, max(3.0, seconds))) for _ in range(2)]
        for _ in range(5)
    ]

    def at(time: float) -> tuple[np.ndarray, float]:
        x, y, zoom, turn, light = (sum(math.sin(phase + rate * time) for phase, rate in some) / 2 for some in waves)
        matrix = cv2.getRotationMatrix2D((SIDE / 2, SIDE / 2), 2.0 * turn, 1.06 + 0.04 * zoom)
        matrix[:, 2] += (0.02 * SIDE * x, 0.02 * SIDE * y)
        return matrix, 1.0 + 0.06 * light

    return at


def write(path: Path, rng: np.random.Generator, pairs: Sequence[Pair], seconds: float, a: float, b: float) -> None:
    """A video of some pictures, forged from second a to b."""
    at, noise = movement(rng, seconds), float(rng.uniform(0.5, 2.5))
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=RATE)
        stream.width = stream.height = SIDE
        stream.pix_fmt = "yuv420p"
        stream.options = {"crf": str(int(rng.integers(18, 29))), "preset": "veryfast"}
        for number, (first, second, share) in enumerate(shown(rng, seconds, len(pairs))):
            which = int(a <= number / RATE < b)
            pixels = pairs[first][which].astype(np.float32)
            if share:
                pixels = pixels * (1 - share) + pairs[second][which] * share
            matrix, gain = at(number / RATE)
            moved = cv2.warpAffine(pixels, matrix, (SIDE, SIDE), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)
            moved = moved * gain + rng.normal(0, noise, moved.shape)
            frame = av.VideoFrame.from_ndarray(np.clip(moved + 0.5, 0, 255).astype(np.uint8), "rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def track_of(inspector: Inspector, path: Path) -> list[tuple[float, float, int]]:
    """Time, logit and frames of every judged point of the longest track."""
    report = inspector.inspect(Source(path.name, path))
    tracks = [face.track or [] for face in report.faces]
    points = []
    for point in max(tracks, key=len, default=[]):
        if point.score is not None:
            score = min(max(point.score, 1e-15), 1 - 1e-15)
            points.append((round(point.time, 3), round(math.log(score / (1 - score)), 4), point.frames))
    return points


def make(samples: Sequence[Sample], split: str, kept: Path, progress: Any) -> list[dict[str, Any]]:
    """The tracks of all videos of a split; what an earlier run has kept is not made again."""
    rows = [json.loads(line) for line in kept.read_text().splitlines()] if kept.is_file() else []
    plan = [kind for kind, count in VIDEOS[split].items() for _ in range(count)]
    persons, inspector = Persons(samples, split), Inspector(edit_pack=None)
    with kept.open("a") as stream:
        for number in range(len(rows), len(plan)):
            kind, rng = plan[number], np.random.default_rng([2 if split == "test" else 1, number])
            seconds = SECONDS[number % len(SECONDS)]
            source, pairs = persons.authentic(rng) if kind == "authentic" else persons.forgeable(rng)
            a, b = (0.0, seconds) if kind == "forged" else (0.0, 0.0)
            if kind == "part":
                length = rng.uniform(2.0, seconds / 2)
                a = rng.uniform(0.0, seconds - length)
                b = a + length
            path = kept.with_suffix(".mp4")
            write(path, rng, pairs, seconds, a, b)
            row = {"kind": kind, "source": source, "seconds": seconds, "from": round(a, 2), "to": round(b, 2)}
            rows.append({**row, "track": track_of(inspector, path)})
            stream.write(json.dumps(rows[-1]) + "\n")
            stream.flush()
            progress.update("videos", number + 1, len(plan), split)
    return rows


def scanned(row: dict[str, Any], spread: float) -> ScannedStretch | None:
    """The most suspect stretch of a video's track."""
    return scan([logit for _, logit, _ in row["track"]], [count for _, _, count in row["track"]], float(RATE), spread)


def overlap(row: dict[str, Any], stretch: ScannedStretch) -> tuple[float, float, float]:
    """Intersection over union of the named and the forged stretch, and how far off start and end are, in seconds."""
    start, end = row["track"][stretch.first][0], row["track"][stretch.last][0] + 1 / RATE
    inside = max(0.0, min(end, row["to"]) - max(start, row["from"]))
    whole = max(end, row["to"]) - min(start, row["from"])
    return inside / whole, abs(start - row["from"]), abs(end - row["to"])


def measured(rows: Sequence[dict[str, Any]], limit: float, spread: float) -> list[dict[str, Any]]:
    """How often a stretch is named, and where, by kind of video and by where its pictures come from."""
    groups = defaultdict(list)
    for row in rows:
        groups[row["kind"], "all"].append(row)
        groups[row["kind"], f"{row['seconds']:g} s"].append(row)
        groups[row["kind"], row["source"]].append(row)
    results = []
    for (kind, group), own in sorted(groups.items()):
        stretches = [(row, scanned(row, spread)) for row in own]
        named = [(row, best) for row, best in stretches if best is not None and best.statistic > limit]
        result = {"kind": kind, "group": group, "videos": len(own), "named": share_interval(len(named), len(own))}
        if kind == "part" and named:
            places = np.array([overlap(row, best) for row, best in named])
            result["overlap"] = [round(float(value), 3) for value in np.percentile(places[:, 0], [50, 25, 75])]
            result["half"] = share_interval(int((places[:, 0] >= 0.5).sum()), len(named))
            result["seconds_off"] = [round(float(value), 2) for value in np.median(places[:, 1:], axis=0)]
        results.append(result)
    return results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("record", type=Path)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--work", type=Path, default=Path("runs/stretches"))
    parser.add_argument("--split", choices=tuple(VIDEOS), help="make the videos of one split and no record")
    parser.add_argument("--ship", action="store_true", help="write the record's limit on the embedded pack's card")
    chosen = parser.parse_args()
    path = Path(unmask.packs.__file__).parent / DETECTOR / "card.json"
    card = Card.read(path)
    if chosen.data is not None:
        chosen.work.mkdir(parents=True, exist_ok=True)
        samples = load_collection(chosen.data)
        with progress_bars() as progress:
            tracks = {
                split: make(samples, split, chosen.work / f"{split}.jsonl", progress)
                for split in ([chosen.split] if chosen.split else VIDEOS)
            }
        if chosen.split:
            return
        authentic = [row for row in tracks["val"] if row["kind"] == "authentic"]
        spread = round(float(np.median([np.std([logit for _, logit, _ in row["track"]]) for row in authentic])), 3)
        best = [one.statistic for one in (scanned(row, spread) for row in authentic) if one is not None]
        limit = math.ceil(1000 * max(best)) / 1000
        content = {
            "command": command(),
            "versions": versions(),
            "pack": f"{card.name} {card.version}",
            "sha256": card.sha256,
            "data_sha256": manifest_sha256(samples),
            "spread": spread,
            "limit": limit,
            "validation": len(authentic),
        }
        rows = [{"split": split, **row} for split, some in tracks.items() for row in measured(some, limit, spread)]
        write_record(chosen.record, {**content, "rows": rows})
    if chosen.ship:
        record = json.loads(chosen.record.read_text(encoding="utf-8"))
        if record["sha256"] != card.sha256:
            raise SystemExit(f"{chosen.record} is of {record['pack']}, another model; measure this one with --data")
        replace(card, stretch=limit_of(record)).write(path)


def limit_of(record: dict[str, Any]) -> StretchLimit:
    """What a record says, for the card."""
    test = next(r for r in record["rows"] if (r["split"], r["kind"], r["group"]) == ("test", "authentic", "all"))
    share, low, high = test["named"]
    return StretchLimit(
        statistic=record["limit"],
        spread=record["spread"],
        false_alarms=share,
        low=low,
        high=high,
        videos=test["videos"],
        data="videos made of authentic frames and portraits of the test split, 6 to 24 s",
    )


TEXT = """## Forged stretches of a video

Made videos of one person of {seconds} s, of frames and portraits of held-out people, detector {pack}: authentic
throughout, forged throughout, or forged from a to b. A stretch is named where the scan statistic passes {limit:.2f},
the highest of {validation} authentic videos of the validation split (spread {spread:.2f}). "Overlap" is intersection
over union of the named and the forged stretch, where one is named: median and quartiles; the last column has how far,
in the median, start and end are off. `unmask inspect` also asks that the likelihood ratio of the stretch favours
forgery: it names no more than this. Shares with 95 % intervals (Clopper and Pearson).
`experiments/plain/stretches.py`.
"""
NAMES = {"authentic": "authentic", "forged": "forged throughout", "part": "forged from a to b"}


def section(root: Path) -> str:
    """What the record beside this script says; `root` is the repository's."""
    record = read_record(root, "plain/stretches")
    lines = []
    for row in record["rows"]:
        if row["split"] == "test":
            place = row.get("overlap")
            lines.append(
                [
                    NAMES[row["kind"]],
                    row["group"],
                    str(row["videos"]),
                    "{:.2f} [{:.2f}, {:.2f}]".format(*row["named"]),
                    "{:.2f} ({:.2f} to {:.2f})".format(*place) if place else "",
                    "{:.1f} / {:.1f}".format(*row["seconds_off"]) if place else "",
                ]
            )
    seconds = ", ".join(f"{one:g}" for one in SECONDS)
    heads = ["video", "of", "videos", "a stretch is named", "overlap", "seconds off"]
    return f"{TEXT.format(seconds=seconds, **record)}\n{markdown(heads, lines)}\n"


if __name__ == "__main__":
    main()
