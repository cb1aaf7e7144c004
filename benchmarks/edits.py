"""What reading edits adds to an inspection: one forged face, with and without its pack, alternating in one run."""

import io
import time

from common import finish, parser, portrait, spread
from PIL import Image

from unmask import Inspector
from unmask.demo.mirror_swap import mirror_swap
from unmask.faces.finding import FaceFinder
from unmask.inspection import EDIT_PACK
from unmask.media.sources import Source


def main() -> None:
    arguments = parser(__doc__ or "")
    arguments.add_argument("--edits", default=EDIT_PACK, help="pack that reads edits: an embedded name or a folder")
    arguments.add_argument("--repeats", type=int, default=50)
    chosen = arguments.parse_args()
    pixels = portrait()
    forged, _ = mirror_swap(pixels, FaceFinder().find(pixels)[0].landmarks)
    stream = io.BytesIO()
    Image.fromarray(forged).save(stream, "PNG")
    source = Source("-", None, stream.getvalue())
    inspectors = {
        "without": Inspector(chosen.pack, edit_pack=None),
        "with": Inspector(chosen.pack, edit_pack=chosen.edits),
    }
    seconds: dict[str, list[float]] = {name: [] for name in inspectors}
    added = []
    for repeat in range(chosen.repeats + 3):
        for name, inspector in inspectors.items():
            began = time.perf_counter()
            report = inspector.inspect(source)
            if repeat >= 3:  # the first ones warm up
                seconds[name].append(time.perf_counter() - began)
        if repeat >= 3:
            added.append(report.timings["edits"])
    finding = report.faces[0].sequence
    results = {
        "outcome": finding and finding.outcome,
        "seconds": {**{name: spread(some) for name, some in seconds.items()}, "edits alone": spread(added)},
        "times without": spread([a / b for a, b in zip(seconds["with"], seconds["without"], strict=True)]),
    }
    finish(chosen, "edits", results)


if __name__ == "__main__":
    main()
