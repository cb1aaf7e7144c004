"""Video: a minute of 720p H.264 with one moving real face, five sampled frames a second."""

import resource
import tempfile
import time
from pathlib import Path

import av
import cv2
import numpy as np
from common import finish, parser, portrait, spread

from unmask import Inspector

WIDTH, HEIGHT, RATE = 1280, 720, 25


def write_video(path: Path, seconds: float, seed: int) -> None:
    """The portrait wanders and swells before a textured, slightly noisy background."""
    generator = np.random.default_rng(seed)
    picture = portrait()
    ground = cv2.GaussianBlur(generator.integers(0, 255, (HEIGHT, WIDTH, 3), np.uint8), (0, 0), 12)
    with av.open(str(path), "w") as container:
        stream = container.add_stream(
            "libx264", rate=RATE, width=WIDTH, height=HEIGHT, pix_fmt="yuv420p", options={"preset": "veryfast"}
        )
        for number in range(round(seconds * RATE)):
            moment = number / RATE
            side = round(440 + 60 * np.sin(0.7 * moment))
            x = round((WIDTH - side) * (0.5 + 0.45 * np.sin(0.31 * moment)))
            y = round((HEIGHT - side) * (0.5 + 0.45 * np.sin(0.23 * moment)))
            frame = ground.copy()
            frame[y : y + side, x : x + side] = cv2.resize(picture, (side, side))
            for packet in stream.encode(av.VideoFrame.from_ndarray(frame, "rgb24")):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)


def main() -> None:
    arguments = parser(__doc__ or "")
    arguments.add_argument("--repeats", type=int, default=3)
    arguments.add_argument("--lengths", type=float, nargs="+", default=[15.0, 60.0], help="seconds of video")
    chosen = arguments.parse_args()
    inspector = Inspector(chosen.pack, frames_per_second=5.0)
    results = {}
    with tempfile.TemporaryDirectory() as folder:
        for seconds in sorted(chosen.lengths):
            path = Path(folder, f"{seconds:g}.mp4")
            write_video(path, seconds, chosen.seed)
            reports, processor = [], []
            for _ in range(chosen.repeats):
                start = time.process_time()
                reports.append(inspector.inspect(path))
                processor.append(time.process_time() - start)
            media = reports[0].media
            assert media is not None
            results[f"{seconds:g} s"] = {
                "findings": len(reports[0].faces),
                "frames_sampled": media.frames_sampled,
                "seconds": {stage: spread([r.timings[stage] for r in reports]) for stage in reports[0].timings},
                # Of all threads together: unlike the rest, hardly changed by what else the machine does.
                "cpu_seconds": spread(processor),
                # Of the whole process so far; the lengths are taken in rising order.
                "peak_rss_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1),
            }
    finish(chosen, "video", results)


if __name__ == "__main__":
    main()
