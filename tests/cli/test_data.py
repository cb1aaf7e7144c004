"""`unmask forge` and `unmask manifest` with makers and layouts of other packages, and what they say."""

import json
import sys
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from fake_faces import find_drawn, make_picture

from unmask import cli
from unmask.datasets.manifest import Sample, read_manifest
from unmask.forging import forge_set
from unmask.forging.makers import Forgery, Request, Setup


class Stripe:
    """A maker that derives from nothing of ours: a white stripe over the eyes."""

    families = ("stripe",)
    needs_donor = False
    needs_taef2 = False
    by_default = False

    def __init__(self, setup: Setup) -> None:
        self.size = setup.size

    def forge(self, rng: np.random.Generator, request: Request) -> Forgery:
        mask = np.zeros((self.size, self.size), np.float32)
        top = int(self.size * rng.uniform(0.3, 0.4))
        mask[top : top + 6] = 1
        pixels = np.where(mask[..., None] > 0, 255, request.face.pixels).astype(np.uint8)
        return Forgery(pixels, mask, "compositeSynthetic", parameters={"top": top})


class Listed:
    """A layout: the pictures that a text file names, all of them forged and for the test."""

    def recognises(self, path: Path) -> bool:
        return path.suffix == ".list"

    def load(self, path: Path) -> list[Sample]:
        names = path.read_text().split()
        rows = {"label": 1, "family": "mine", "source": "mine", "split": "test"}
        return [Sample(path=str(path.absolute().parent / name), subject=name, **rows) for name in names]  # type: ignore[arg-type]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[str, str]]:
    """Standard output and error of a command that succeeds."""
    monkeypatch.setattr(forge_set, "face_finder", lambda: find_drawn)

    def call(*args: str) -> tuple[str, str]:
        monkeypatch.setattr(sys, "argv", ["unmask", *args])
        with pytest.raises(SystemExit) as end:
            cli.main()
        output = capsys.readouterr()
        assert end.value.code == 0, output.err
        return output.out, output.err

    return call


@pytest.fixture
def faces(tmp_path: Path) -> Path:
    folder = tmp_path / "faces"
    folder.mkdir()
    for number in range(6):
        cv2.imwrite(str(folder / f"{number}.png"), make_picture(80, number))
    return folder


def test_a_maker_of_another_package_forges_from_the_command_line(
    faces: Path, tmp_path: Path, run: Callable[..., tuple[str, str]]
) -> None:
    kind, out = f"{__name__}:Stripe", tmp_path / "set"
    text, error = run("forge", str(faces), str(out), "--kind", kind, "--kind", "selfblend", "--size", "64")
    assert "6 real" in text and "6 stripe" in text and "6 selfblend" in text
    # No bars where nobody looks at them; six people are too few for four splits.
    assert [line for line in error.splitlines() if "nobody fell into the split" not in line] == []
    rows = [json.loads(line) for line in (out / "record.jsonl").read_text().splitlines()]
    stripes = [row for row in rows if row["family"] == "stripe"]
    assert len(stripes) == 6 and {row["kind"] for row in stripes} == {kind}
    assert all(19 <= row["parameters"]["top"] <= 26 for row in stripes)
    for sample in read_manifest(out / "manifest.csv"):
        if sample.family == "stripe":
            mask, pixels = cv2.imread(sample.mask, cv2.IMREAD_GRAYSCALE), cv2.imread(sample.path)
            assert mask is not None and pixels is not None and (mask == 255).sum() == 6 * 64
            assert (pixels[mask == 255] == 255).all()


def test_a_layout_of_another_package_is_read_from_the_command_line(
    faces: Path, tmp_path: Path, run: Callable[..., tuple[str, str]]
) -> None:
    (faces / "some.list").write_text("1.png 3.png")
    out = tmp_path / "m.csv"
    text, _ = run("manifest", str(faces / "some.list"), "--layout", f"{__name__}:Listed", "--out", str(out))
    assert "2 pictures" in text
    assert [Path(sample.path).name for sample in read_manifest(out)] == ["1.png", "3.png"]


@pytest.mark.parametrize(
    ("kinds", "made"),
    [
        (["fingerprint"], ["selfblend", "swap", "resynthesis"]),
        (["selfblend", "swap"], ["resynthesis"]),
    ],
)
def test_a_manifest_says_what_training_would_make_besides(
    faces: Path, tmp_path: Path, run: Callable[..., tuple[str, str]], kinds: list[str], made: list[str]
) -> None:
    run(
        "forge",
        str(faces),
        str(tmp_path / "set"),
        "--size",
        "64",
        *(part for kind in kinds for part in ("--kind", kind)),
    )
    samples = read_manifest(tmp_path / "set" / "manifest.csv")
    assert {"real", kinds[0]} <= {s.family.split("-")[0] for s in samples if s.split == "train"}
    text, _ = run("manifest", str(tmp_path / "set"), "--out", str(tmp_path / "m.csv"))
    (line,) = (line for line in text.splitlines() if "unmask train" in line)
    assert [name for name in ("selfblend", "swap", "resynthesis") if name in line] == made


def test_a_manifest_without_reals_to_train_on_promises_nothing(
    faces: Path, tmp_path: Path, run: Callable[..., tuple[str, str]]
) -> None:
    (faces / "some.list").write_text("1.png 3.png")
    text, _ = run(
        "manifest", str(faces / "some.list"), "--layout", f"{__name__}:Listed", "--out", str(tmp_path / "m.csv")
    )
    assert "unmask train" not in text
