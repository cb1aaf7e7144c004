"""Campaigns of the red team as data to train on: labels and people as before the attack, and no band to read."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from unmask.datasets.face_store import build_store, read_store
from unmask.datasets.layouts import detect_layout, read_layout
from unmask.datasets.layouts.attacked import RECORDS, SETTINGS
from unmask.errors import DataError
from unmask.media.synthetic_mark import FORGED, band_height, with_band

pytestmark = pytest.mark.lab
SIDE = 224


def write_campaign(folder: Path, portrait: Path, kind: str = "pack", people: int = 20) -> Path:
    """A campaign as `redteam.campaign` leaves it: of every person one picture, of every second one a forged one."""
    folder.mkdir()
    (folder / SETTINGS).write_text(json.dumps({"kind": kind}), encoding="utf-8")
    picture = cv2.imread(str(portrait))
    assert picture is not None
    picture = cv2.resize(picture, (SIDE, SIDE), interpolation=cv2.INTER_AREA)
    lines = []
    for person in range(people):
        forged = person % 2
        goal, attack = ("accuse", "hide")[forged], ("square", "apgd")[person % 4 // 2]
        common = {"goal": goal, "name": f"{person}.png", "subject": f"p{person}", "label": forged}
        path = f"pictures/plain/{attack}-0.0157/{goal}/{person:05d}.png"
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(
            str(folder / path), with_band(np.clip(picture.astype(int) + person, 0, 255).astype(np.uint8), FORGED)
        )
        lines.append({"job": f"clean|{goal}", "attack": "clean", **common})
        lines.append({"job": f"plain|{attack}", "attack": attack, "victim": "plain", "picture": path, **common})
    text = "\n".join(map(json.dumps, lines)) + "\n" + '{"job": "torn'
    (folder / RECORDS).write_text(text, encoding="utf-8")
    return folder


def test_labels_people_and_families(tmp_path: Path, portrait: Path) -> None:
    folder = write_campaign(tmp_path / "attacked", portrait)
    assert detect_layout(folder) == "attacked"
    samples = read_layout(folder)
    assert len(samples) == 20 and {sample.source for sample in samples} == {"attacked"}
    for number, sample in enumerate(samples):
        attack = ("square", "apgd")[number % 4 // 2]
        assert sample.label == number % 2 and sample.subject == f"p{number}"
        assert sample.family == (f"attacked-{attack}" if number % 2 else "real") and Path(sample.path).is_file()
    assert {sample.split for sample in samples} > {"train"}


def test_one_person_is_on_one_side(tmp_path: Path, portrait: Path) -> None:
    folder = write_campaign(tmp_path / "attacked", portrait)
    text = (folder / RECORDS).read_text(encoding="utf-8")
    for person in range(1, 20, 2):
        text = text.replace(f'"subject": "p{person}"', f'"subject": "p{person - 1}"')
    (folder / RECORDS).write_text(text, encoding="utf-8")
    sides: dict[str, set[str]] = {}
    for sample in read_layout(folder):
        sides.setdefault(sample.subject, set()).add(sample.split)
    assert len(sides) == 10 and all(len(one) == 1 for one in sides.values())


def test_no_window_holds_any_of_the_band(tmp_path: Path, portrait: Path) -> None:
    folder = write_campaign(tmp_path / "attacked", portrait)
    samples = read_layout(folder)[:4]
    assert build_store(samples, tmp_path / "store") == 0
    for face in read_store(tmp_path / "store"):
        assert face.window[1] >= band_height(SIDE)
        whole = cv2.imread(face.sample.path)
        assert whole is not None
        left, top, side = face.window
        wanted = cv2.cvtColor(whole, cv2.COLOR_BGR2RGB)[band_height(SIDE) :][top - band_height(SIDE) :][:side]
        np.testing.assert_array_equal(face.pixels(), wanted[:, left : left + side])
        x, y, w, h = face.box
        assert -0.2 * side < x < x + w < 1.2 * side and -0.2 * side < y < y + h < 1.2 * side
        assert (face.landmarks > 0).all() and (face.landmarks < side).all()


def test_its_manifest_is_one_to_train_on(tmp_path: Path, portrait: Path, say: Callable[..., Any]) -> None:
    folder = write_campaign(tmp_path / "attacked", portrait)
    code, error = say(["manifest", str(folder), "--out", str(tmp_path / "attacked.csv")])
    assert code == 0 and not error.strip()
    header, *rows = (tmp_path / "attacked.csv").read_text(encoding="utf-8").splitlines()
    assert "family" in header and len(rows) == 20 and sum("attacked-apgd" in row for row in rows) == 5


@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        (lambda f: (f / SETTINGS).write_text('{"kind": "recogniser"}'), "neither forged nor real"),
        (lambda f: (f / SETTINGS).write_text("{"), "not a readable campaign"),
        (lambda f: (f / RECORDS).write_text("{}\n[]\n"), "no samples"),
        (lambda f: (f / RECORDS).write_text('{"picture": "x.png"}\n'), "not a readable campaign"),
        (lambda f: next(f.rglob("*.png")).unlink(), "no file"),
    ],
)
def test_what_is_refused(tmp_path: Path, portrait: Path, spoil: Callable[[Path], Any], why: str) -> None:
    folder = write_campaign(tmp_path / "attacked", portrait, people=4)
    spoil(folder)
    with pytest.raises(DataError, match=why):
        read_layout(folder)
