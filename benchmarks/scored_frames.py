"""How few frames of a long track have to be scored: verdicts and likelihood ratios against those of all frames.

Clips are made of the pictures of each video in a folder with an `index.csv` (columns path, label, group): they follow
each other, wander, swell, and change in light, and are compressed. All frames of each are scored once. From these
answers it is computed what scoring ever fewer frames would have said, of each clip and of its parts.
"""

import csv
import os
import tempfile
from collections import defaultdict
from pathlib import Path
from unittest.mock import patch

import av
import cv2
import numpy as np
from common import finish, parser
from PIL import Image

from unmask import Inspector
from unmask.evidence.likelihood import decide, likelihood_ratio
from unmask.evidence.report import Report
from unmask.inspection import video_tracks
from unmask.inspection.judging import PackAnswer
from unmask.packs import load_pack

RATE, SIDE = 5, 320
EVERY = (4, 8, 16, 32, 64)
PARTS = (48, 120, 240)  # frames


def videos(index: Path, least: int) -> dict[str, list[Path]]:
    """The pictures of each video, by label and group, of groups with at least `least` of them."""
    groups: dict[str, list[Path]] = defaultdict(list)
    with index.open(encoding="utf-8", newline="") as stream:
        for row in csv.DictReader(stream):
            groups[f"{row['label']} {row['group']}"].append(index.parent / row["path"])
    return {name: sorted(paths) for name, paths in groups.items() if len(paths) >= least}


def write_clip(path: Path, pictures: list[Path], frames: int, generator: np.random.Generator) -> None:
    """The pictures one after the other, each wandering slowly before the next takes over."""
    loaded = [np.asarray(Image.open(one).convert("RGB").resize((SIDE, SIDE))) for one in pictures]
    phases, speeds = generator.uniform(0, 6.28, 4), generator.uniform(0.2, 0.9, 4)
    options = {"preset": "veryfast", "crf": str(generator.integers(18, 31))}
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=RATE, width=SIDE, height=SIDE, pix_fmt="yuv420p", options=options)
        for number in range(frames):
            wave = np.sin(phases + speeds * number / RATE)
            scale = 1.1 + 0.1 * wave[0]
            turn = cv2.getRotationMatrix2D((SIDE / 2 + 12 * wave[1], SIDE / 2 + 12 * wave[2]), 0.0, scale)
            picture = cv2.warpAffine(
                loaded[number * len(loaded) // frames], turn, (SIDE, SIDE), borderMode=cv2.BORDER_REFLECT
            )
            picture = np.clip(picture * (1 + 0.25 * wave[3]), 0, 255).astype(np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, "rgb24")))
        container.mux(stream.encode())


def answers_of(report: Report) -> list[list[PackAnswer]]:
    """Of every track the answers of all its frames."""
    return [
        [
            PackAnswer(float(np.log(point.score / (1 - point.score))), point.quality)
            for point in face.track or ()
            if point.score is not None
        ]
        for face in report.faces
    ]


def main() -> None:
    arguments = parser(__doc__ or "")
    arguments.add_argument("--data", type=Path, default=Path(os.environ.get("UNMASK_DATA", "../shared/data")))
    arguments.add_argument("--clips", type=int, default=12)
    arguments.add_argument("--frames", type=int, default=max(PARTS))
    chosen = arguments.parse_args()
    generator = np.random.default_rng(chosen.seed)
    found = videos(chosen.data / "forensics" / "wild_256" / "index.csv", least=5)
    by_label = [[name for name in sorted(found) if name.startswith(label)] for label in ("0", "1")]
    picked = [str(name) for names in by_label for name in generator.choice(names, chosen.clips // 2, replace=False)]
    inspector = Inspector(chosen.pack, edit_pack=None)
    tracks: list[list[PackAnswer]] = []
    with tempfile.TemporaryDirectory() as folder, patch.object(video_tracks, "EVERY_DOUBLING", 10**9):
        for number, name in enumerate(picked):
            path = Path(folder, f"{number}.mp4")
            write_clip(path, found[name][:6], chosen.frames, generator)
            tracks += answers_of(inspector.inspect(path))
    calibration = load_pack(chosen.pack).card.calibration
    assert calibration is not None
    results = {"clips": len(picked), "tracks": len(tracks), "frames": sum(map(len, tracks)), "parts": {}}
    for length in (length for length in PARTS if any(len(track) >= length for track in tracks)):
        parts = [track[first : first + length] for track in tracks for first in range(0, len(track) - length + 1, 24)]
        compared = {}
        for every in EVERY:
            with patch.object(video_tracks, "EVERY_DOUBLING", every):
                due = [number for number in range(length) if video_tracks.is_due(number)]
            frames = [later - number for number, later in zip(due, [*due[1:], length], strict=True)]
            apart, equal = [], 0
            for part in parts:
                ratios = []
                for scored, counts in ((part, [1] * length), ([part[number] for number in due], frames)):
                    mean = video_tracks.mean_answer(scored, counts)
                    assert mean is not None
                    ratios.append(likelihood_ratio(calibration, mean.logit, mean.quality))
                apart.append(abs(ratios[0] - ratios[1]))
                equal += decide(ratios[0], calibration) == decide(ratios[1], calibration)
            compared[str(every)] = {
                "scored": len(due),
                "same_verdict": round(equal / len(parts), 4),
                "log10_lr_apart": {
                    "median": round(float(np.median(apart)), 4),
                    "p99": round(float(np.quantile(apart, 0.99)), 4),
                    "max": round(max(apart), 4),
                },
            }
        results["parts"][str(length)] = {"parts": len(parts), "every": compared}
    finish(chosen, "scored_frames", results)


if __name__ == "__main__":
    main()
