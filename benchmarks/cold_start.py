"""Cold start: from the start of the process to the report on one photograph, and to the help text."""

import sys
import tempfile
from pathlib import Path

from common import finish, parser, portrait, spread, timed
from PIL import Image

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
            "unmask --help": [*UNMASK, "--help"],
            "inspect, JSON": [*inspect, "--json", "-"],
            "inspect, table": inspect,
            "inspect, HTML": [*inspect, "--quiet", "--html", str(Path(folder, "report.html"))],
        }
        times: dict[str, list[float]] = {name: [] for name in commands}
        for turn in range(chosen.repeats + 1):
            for name, command in commands.items():
                seconds = timed(command)
                if turn:  # the first turn fills the file cache
                    times[name].append(seconds)
    finish(chosen, "cold_start", {"seconds": {name: spread(values) for name, values in times.items()}})


if __name__ == "__main__":
    main()
