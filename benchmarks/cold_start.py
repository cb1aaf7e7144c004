"""Cold start: from the start of the process to the report on one photograph, and to the help text.

Beside seconds, how many times as long as importing the libraries that every inspection needs, turn by turn: that
depends less on the machine, and on what else it does.
"""

import sys
import tempfile
from pathlib import Path

from common import finish, parser, portrait, spread, timed
from PIL import Image

LIBRARIES = "numpy, cv2, onnxruntime"
UNMASK = [sys.executable, "-m", "unmask.cli"]


def main() -> None:
    arguments = parser(__doc__ or "")
    arguments.add_argument("--repeats", type=int, default=15)
    chosen = arguments.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        photo = Path(folder, "photo.jpg")
        Image.fromarray(portrait()).save(photo, quality=95)
        inspect = [*UNMASK, "inspect", str(photo), "--pack", chosen.pack]
        commands = {
            "python itself": [sys.executable, "-c", "pass"],
            LIBRARIES: [sys.executable, "-c", "import numpy, cv2, onnxruntime"],
            "unmask --help": [*UNMASK, "--help"],
            "inspect, JSON": [*inspect, "--json", "-"],
            "inspect without edits, JSON": [*inspect, "--edits", "none", "--json", "-"],
            "inspect, table": inspect,
            "inspect, HTML": [*inspect, "--quiet", "--html", str(Path(folder, "report.html"))],
        }
        times: dict[str, list[float]] = {name: [] for name in commands}
        for turn in range(chosen.repeats + 1):
            for name, command in commands.items():
                seconds = timed(command)
                if turn:  # the first turn fills the file cache
                    times[name].append(seconds)
    libraries = times[LIBRARIES]
    results = {
        "seconds": {name: spread(values) for name, values in times.items()},
        "times the libraries": {
            name: spread([one / other for one, other in zip(values, libraries, strict=True)])
            for name, values in times.items()
        },
    }
    finish(chosen, "cold_start", results)


if __name__ == "__main__":
    main()
