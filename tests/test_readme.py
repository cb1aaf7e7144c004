"""What the README says to type works as it stands there."""

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from unmask.packs import load_pack

ROOT = Path(__file__).resolve().parent.parent
TEXT = (ROOT / "README.md").read_text(encoding="utf-8")
LINES = [line for block in re.findall(r"```sh\n(.*?)```", TEXT, re.DOTALL) for line in block.splitlines()]
# Installing is what CI does before it comes here; the lab's commands take long and have tests of their own.
COMMANDS = [line for line in LINES if re.match(r"unmask (inspect|demo|packs)\b", line)]
PYTHON = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory, portrait: Path, make_video: Callable[..., Path]) -> Path:
    """A folder with the files that the README speaks of."""
    folder = tmp_path_factory.mktemp("desk")
    (folder / "holiday").mkdir()
    for place in (folder / "photo.jpg", folder / "holiday" / "beach.jpg"):
        place.write_bytes(portrait.read_bytes())
    with Image.open(portrait) as picture:
        pixels = np.asarray(picture.convert("RGB"))
    (folder / "clip.mp4").write_bytes(make_video(lambda _: pixels, seconds=1.0).read_bytes())
    return folder


def run(command: str | list[str], folder: Path) -> subprocess.CompletedProcess:
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    done = subprocess.run(
        command,
        shell=isinstance(command, str),
        cwd=folder,
        env={**os.environ, "PATH": path},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return done


def test_the_two_commands_of_the_project() -> None:
    assert "pip install . && unmask demo" in LINES
    assert 'pip install ".[dev]" && pytest' in LINES


def test_demo(desk: Path) -> None:
    done = run("unmask demo", desk)
    assert "photograph.jpg" in done.stdout and "forgery.png" in done.stdout
    page = (desk / "unmask-demo" / "report.html").read_text(encoding="utf-8")
    assert page.rstrip().endswith("</html>")


@pytest.mark.parametrize("command", COMMANDS)
def test_command(command: str, desk: Path) -> None:
    done = run(command, desk)
    assert done.stdout or "--json reports.jsonl" in command
    if "--html" in command:
        assert (desk / "reports.html").is_file() and (desk / "reports.jsonl").read_text().count("\n") == 1


@pytest.mark.parametrize("code", PYTHON)
def test_python(code: str, desk: Path) -> None:
    assert len(code.strip().splitlines()) == 3
    done = run([sys.executable, "-c", code], desk)
    assert re.match(r"(forged|authentic|inconclusive) -?\d", done.stdout)


def test_the_architecture_shows_the_rooms_that_exist() -> None:
    drawn = set(re.findall(r"^  (\w+)(?:/|\.py) ", TEXT, re.MULTILINE))
    rooms = {path.name for path in (ROOT / "src" / "unmask").iterdir() if (path / "__init__.py").is_file()}
    modules = {path.stem for path in (ROOT / "src" / "unmask").glob("*.py")} - {"__init__", "errors"}
    assert drawn == rooms | modules


@pytest.mark.parametrize(
    "name",
    ["README.md", "CONTRIBUTING.md", "docs/index.md", "docs/reports.md", "docs/tracing.md", "benchmarks/README.md"],
)
def test_links_lead_somewhere(name: str) -> None:
    page = ROOT / name
    for target in re.findall(r"\]\(([^)#]+)", page.read_text(encoding="utf-8")):
        if "://" not in target:
            assert (page.parent / target).exists(), f"{name}: {target}"


def test_the_limits_quote_the_embedded_packs_card() -> None:
    card = load_pack("plain").card
    limits = " ".join(TEXT.split("## Limits")[1].split("## Licence")[0].split())
    found = {(m.name, m.dataset): m for m in card.metrics if m.condition == "as is"}

    def share(name: str, dataset: str) -> str:
        return f"{100 * found[name, dataset].value:.0f} %"

    def rounded(name: str, dataset: str) -> str:
        return f"{found[name, dataset].value:.2f}".removeprefix("0")

    def is_chance(name: str, dataset: str) -> bool:
        metric = found[name, dataset]
        assert metric.low is not None and metric.high is not None
        return metric.low <= 0.5 <= metric.high

    assert card.calibration is not None
    for told in (
        f"{rounded('auc', 'stylegan')} on StyleGAN",
        f"{rounded('auc', 'mobilestylegan')} on MobileStyleGAN",
        f"{rounded('auc', 'selfblend')} on self-blends",
        f"{rounded('auc', 'swap')} on face swaps",
        f"{rounded('auc', 'ciplab')} on expert composites",
        f"no better than a coin ({rounded('auc', 'pggan')})",
        f"calls {share('verdict_forged', 'real')} of authentic portraits forged",
        f"and {share('verdict_forged', 'swap')} of swaps",
        f"part of {share('pointing', 'swap')} of swaps ({share('pointing_chance', 'swap')} by chance)",
        f"does not tell the edited features from the others ({rounded('region_agreement', 'ciplab')})",
        "misses more than half of the swaps",
        f"Cllr {card.calibration.cllr:.2f} on unseen families",
    ):
        assert told in limits
    assert is_chance("auc", "pggan") and is_chance("region_agreement", "ciplab")
    assert found["miss_at_1%", "swap"].value > 0.5
    silent = [b for b in card.calibration.bins if max(-b.lower, b.upper) < card.calibration.decision_log10_lr]
    assert [f"quality is under {b.quality_max:.0f}" in limits for b in silent] == [True] * len(silent)
    assert ("quality is under" in limits) == bool(silent)
