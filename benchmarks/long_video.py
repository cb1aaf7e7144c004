"""Long videos: a minute of 720p H.264 with one moving real face, over and over; time and memory by length."""

import resource
import tempfile
import time
from pathlib import Path

import av
from common import finish, parser
from video import write_video

from unmask import Inspector


def repeat(source: Path, path: Path, times: int) -> None:
    """The packets of a video, over and over; the person jumps back at each seam."""
    with av.open(str(path), "w") as target:
        stream = length = None
        for turn in range(times):
            with av.open(str(source)) as container:
                video = container.streams.video[0]
                stream = stream or target.add_stream_from_template(video)
                length = length or video.duration
                for packet in container.demux(video):
                    if packet.dts is None:
                        continue
                    packet.pts, packet.dts = packet.pts + turn * length, packet.dts + turn * length
                    packet.stream = stream
                    target.mux(packet)


def main() -> None:
    arguments = parser(__doc__ or "")
    arguments.add_argument("--minutes", type=int, nargs="+", default=[10, 40])
    arguments.add_argument("--scene", type=float, default=60.0, help="seconds of video that are repeated")
    chosen = arguments.parse_args()
    inspector = Inspector(chosen.pack, frames_per_second=5.0)
    results = {}
    with tempfile.TemporaryDirectory() as folder:
        scene, path = Path(folder, "scene.mp4"), Path(folder, "long.mp4")
        write_video(scene, chosen.scene, chosen.seed)
        for minutes in sorted(chosen.minutes):
            repeat(scene, path, round(60 * minutes / chosen.scene))
            start = time.process_time()
            report = inspector.inspect(path)
            processor = time.process_time() - start
            assert report.media is not None and report.media.frames_sampled is not None
            results[f"{minutes} min"] = {
                "findings": len(report.faces),
                "frames_sampled": report.media.frames_sampled,
                "frames_scored": sum(face.frames_scored or 0 for face in report.faces),
                "seconds": report.timings,
                # Of all threads together: unlike the rest, hardly changed by what else the machine does.
                "cpu_seconds": round(processor, 2),
                # Of the whole process so far; the lengths are taken in rising order.
                "peak_rss_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1),
            }
    finish(chosen, "long_video", results)


if __name__ == "__main__":
    main()
