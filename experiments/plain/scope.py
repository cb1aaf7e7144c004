"""Learns and measures which faces are out of scope: drawings, covered eyes, covered mouths.

    PYTHONPATH=experiments python experiments/plain/scope.py experiments/plain/scope.json --data DATA [--work DIR]

Three linear classifiers (logistic regression) on `unmask.faces.scope.scope_features` of faces that the face detector
finds. Faces in scope: real and forged ones of all collections, as they are, grey, compressed, small, dark and bright.
Drawings: made of photographs of the train split by three filters (pencil, lines, cartoon) and drawn people and animals
of PACS in which a face is found. Coverings are painted on faces of the train split: sunglasses and bars over the eyes;
surgical masks, cloths and bars over the mouth. Beside them stand the few faces of the collections whose eyes or mouth
really are covered, sorted out by eye: as faces in scope they would teach and measure the wrong thing.

The rule of the choice, written before the run: of five strengths of regularisation the one with the highest mean recall
on the validation split at the limit, for each classifier; the limit is the lowest at which at most 0.5 % of the
validation faces in scope are out of scope by it, of photographs and of forged faces each. Then it is measured once: on
the test split of every collection, on the drawings of the CUHK student set, of which nothing was trained on, on
drawings by two filters that were not trained on, on painted coverings of test faces, and on the portraits
of CelebAMask-HQ whose masks have glasses and no eyes, which are in no split here.
"""

import argparse
import json
import zlib
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from common import command, read_record, share_interval, write_record
from sklearn.linear_model import LogisticRegression

from unmask.cli.options import progress_bars
from unmask.datasets.layouts.collection import load_collection
from unmask.faces.alignment import context_crop
from unmask.faces.finding import FaceFinder, FoundFace
from unmask.faces.scope import SCOPE_CLASSES, scope_features
from unmask.lab.run import versions
from unmask.tables import markdown

MARGIN, SIZE = 1.4, 224
MOST = {"train": (110, 30), "val": (40, 30), "test": (60, 40)}  # faces of a source of reals, of a family
WORN = "portraits with glasses and no eyes"
STRENGTHS = (0.003, 0.01, 0.03, 0.1, 0.3)
MOST_OUT = 0.005
OUT = Path(__file__).resolve().parent.parent.parent / "src/unmask/faces/scope.json"
COVERED_EYES = frozenset(
    [
        "000039__a",
        "img_0000191__a",
        "00358",
        "00025",
        "00379",
        "00859",
        "00195",
        "00958",
        "00107",
        "95b15283ad764a99b4ccafee2feac80a",
        "1b640bf99beb4bcb8f9e3b9a9efeba33",
        "00839",
        "t2i_0506__s25",
        "0GXNOJNA3W",
        "t2i_0435__s21",
        "t2i_0006__s00",
        "000179__a",
        "t2i_0004__s00",
        "sg3_700038___psi0.85",
        "001225__a",
        "00787",
        "00362",
        "pggan_227",
        "000278__a",
        "000350__s",
        "00979",
        "000280__a",
        "000727__a",
        "001136__s",
        "img_0002164__a",
        "img_0002309__a",
        "001329__a",
        "000020__a",
        "img_0002411__s",
        "001231__a",
        "000298__s",
    ]
)
"""Sunglasses and bandages in the collections, by eye among the faces that a first classifier scored highest."""
COVERED_MOUTH = frozenset(["img_0002098__a"])
UNCLEAR = frozenset(
    [
        "00772",
        "t2i_0461__s23",
        "stylegan3-ffhq-r_0222__a",
        "sg3_700278___psi0.85",
        "001125__a",
        "real_00047",
        "gpen_ffhq00005__orig",
        "gpen_ffhq00005__inp",
    ]
)
"""Tinted glasses, and mouths behind a cup, a hand or a microphone: neither in scope nor out of it."""
Picture = np.ndarray
Change = Callable[[np.random.Generator, Picture, FoundFace], Picture]


def grey(rng: np.random.Generator, picture: Picture, face: FoundFace) -> Picture:
    return cv2.cvtColor(cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)


def compressed(rng: np.random.Generator, picture: Picture, face: FoundFace) -> Picture:
    data = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(20, 70))])[1]
    return cv2.imdecode(data, cv2.IMREAD_COLOR)


def small(rng: np.random.Generator, picture: Picture, face: FoundFace) -> Picture:
    factor = max(0.25, 40 / face.box[2])
    reduced = cv2.resize(picture, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA)
    return cv2.resize(reduced, picture.shape[1::-1], interpolation=cv2.INTER_CUBIC)


def lit(rng: np.random.Generator, picture: Picture, face: FoundFace) -> Picture:
    gamma = float(rng.choice([0.45, 0.6, 1.7, 2.4]))
    return (255 * (picture / 255.0) ** gamma + 0.5).astype(np.uint8)


IN_SCOPE: dict[str, Change] = {
    "as it is": lambda rng, picture, face: picture,
    "greyscale": grey,
    "compressed": compressed,
    "small": small,
    "dark or bright": lit,
}


def pencil(rng: np.random.Generator, picture: Picture, face: FoundFace) -> Picture:
    """Luma divided by its own blur: what most "sketch" filters do."""
    luma = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY).astype(np.float32)
    blur = cv2.GaussianBlur(luma, (0, 0), face.box[2] * rng.uniform(0.02, 0.08))
    drawn = np.clip(255 * (luma + 1) / (blur + 1), 0, 255) ** rng.uniform(1.0, 3.0)
    drawn = drawn / drawn.max() * 255
    return paper(rng, drawn.astype(np.uint8))


def lines(rng: np.random.Generator, picture: Picture, face: FoundFace) -> Picture:
    """Extended difference of Gaussians (Winnemöller 2011)."""
    luma = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY).astype(np.float32) / 255
    sigma = face.box[2] * rng.uniform(0.004, 0.012)
    first, second = (cv2.GaussianBlur(luma, (0, 0), max(0.4, sigma * k)) for k in (1.0, 1.6))
    sharp = (1 + 20) * first - 20 * second
    level = rng.uniform(0.3, 0.7)
    drawn = np.where(sharp > level, 1.0, 1.0 + np.tanh(rng.uniform(3, 12) * (sharp - level)))
    return paper(rng, (255 * np.clip(drawn, 0, 1)).astype(np.uint8))


def paper(rng: np.random.Generator, drawn: np.ndarray) -> Picture:
    """A grey drawing on white, yellow or grey paper, sometimes reduced and enlarged."""
    if rng.random() < 0.4:
        drawn = cv2.resize(cv2.resize(drawn, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA), drawn.shape[::-1])
    tint = np.array([255, 255, 255]) - rng.uniform(0, 40, 3) * (rng.random() < 0.5)
    low = rng.uniform(0, 90)
    return ((low + drawn[..., None] * (1 - low / 255)) / 255 * tint).astype(np.uint8)


def cartoon(rng: np.random.Generator, picture: Picture, face: FoundFace) -> Picture:
    """Flat colours with dark outlines."""
    flat = picture
    for _ in range(3):
        flat = cv2.bilateralFilter(flat, 9, 40, 9)
    steps = int(rng.integers(5, 9))
    flat = ((flat.astype(np.int32) * steps // 256 + 0.5) * 255 / steps).astype(np.uint8)
    luma = cv2.medianBlur(cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY), 5)
    edges = cv2.adaptiveThreshold(
        luma, 255, cv2.ADAPTIVE_THRESH_MEAN_C, cv2.THRESH_BINARY, 9, float(rng.integers(2, 6))
    )
    return np.where(edges[..., None] > 0, flat, flat // 5).astype(np.uint8)


def pencil_opencv(rng: np.random.Generator, picture: Picture, face: FoundFace) -> Picture:
    shade, colours = cv2.pencilSketch(picture, sigma_s=60, sigma_r=0.07, shade_factor=0.05)
    return colours if rng.random() < 0.5 else cv2.cvtColor(shade, cv2.COLOR_GRAY2RGB)


def posterised(rng: np.random.Generator, picture: Picture, face: FoundFace) -> Picture:
    """A print of four to six tones after a median filter."""
    side = int(face.box[2] * 0.05) // 2 * 2 + 3
    luma = cv2.medianBlur(cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY), side).astype(np.float32)
    tones = int(rng.integers(2, 5))
    drawn = np.floor(luma / 256 * tones) / (tones - 1) * 255
    return cv2.cvtColor(drawn.astype(np.uint8), cv2.COLOR_GRAY2RGB)


DRAWN: dict[str, Change] = {"pencil": pencil, "lines": lines, "cartoon": cartoon}
DRAWN_OTHERWISE: dict[str, Change] = {"pencil filter of OpenCV": pencil_opencv, "print of few tones": posterised}


def polygon(picture: Picture, points: np.ndarray, paint: np.ndarray, soft: float) -> Picture:
    """Paint laid on a polygon with a soft edge; `paint` is a colour or a picture of the same shape."""
    mask = np.zeros(picture.shape[:2], np.float32)
    cv2.fillPoly(mask, [np.round(points).astype(np.int32)], 1.0, cv2.LINE_AA)
    mask = cv2.GaussianBlur(mask, (0, 0), max(0.5, soft))[..., None]
    return np.clip(picture * (1 - mask) + paint * mask + 0.5, 0, 255).astype(np.uint8)


def axes(face: FoundFace) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Middle of the eyes, and the face's directions right and down, each as long as the eyes are apart."""
    right, left, _, *mouth = face.landmarks.astype(np.float64)
    across = left - right
    down = np.mean(mouth, axis=0) - (right + left) / 2
    return (right + left) / 2, across, down / max(np.linalg.norm(down), 1e-6) * np.linalg.norm(across)


def ring(points: list[tuple[float, float]], face: FoundFace) -> np.ndarray:
    """Points in the face's own axes as pixels."""
    middle, across, down = axes(face)
    return np.array([middle + x * across + y * down for x, y in points])


def shaded(rng: np.random.Generator, picture: Picture, colour: np.ndarray, grain: float) -> np.ndarray:
    """Cloth: a colour with light from one side, folds and grain."""
    height, width = picture.shape[:2]
    folds = cv2.resize(rng.normal(0, 1, (6, 6)).astype(np.float32), (width, height), interpolation=cv2.INTER_CUBIC)
    light = 1 + 0.25 * rng.uniform(-1, 1) * np.linspace(-1, 1, width)[None] + 0.12 * folds
    return colour * light[..., None] + rng.normal(0, grain, (height, width, 1))


def sunglasses(rng: np.random.Generator, picture: Picture, face: FoundFace) -> Picture:
    colour = rng.uniform(0, 70) + rng.uniform(0, 30, 3)
    width, height = rng.uniform(0.34, 0.46), rng.uniform(0.24, 0.38)
    turns = np.linspace(0, 2 * np.pi, 24, endpoint=False)
    square = rng.uniform(0.5, 1.0)
    out = picture
    for centre in (-0.5, 0.5):
        shape = [
            (
                centre + width * np.sign(np.cos(t)) * abs(np.cos(t)) ** square,
                0.05 + height * np.sign(np.sin(t)) * abs(np.sin(t)) ** square,
            )
            for t in turns
        ]
        lens = ring(shape, face)
        shine = np.linspace(0, rng.uniform(0, 90), picture.shape[0])[:, None, None]
        see = rng.uniform(0.75, 1.0)
        out = polygon(out, lens, see * (colour + shine) + (1 - see) * out, 0.01 * face.box[2])
        cv2.polylines(out, [np.round(lens).astype(np.int32)], True, (colour * 0.6).tolist(), 1 + int(face.box[2] / 70))
    bridge = ring([(-0.15, -0.05), (0.15, -0.05), (0.15, 0.02), (-0.15, 0.02)], face)
    return polygon(out, bridge, colour * 0.7, 0.6)


def eye_bar(rng: np.random.Generator, picture: Picture, face: FoundFace) -> Picture:
    tone = float(rng.choice([0, 15, 128, 240, 255]))
    wide, high = rng.uniform(0.9, 1.3), rng.uniform(0.22, 0.42)
    bar = ring([(-wide, -high), (wide, -high), (wide, high), (-wide, high)], face)
    return polygon(picture, bar, np.full(3, tone), 0.5)


CLOTHS = np.array(
    [[235, 238, 240], [150, 190, 220], [120, 170, 200], [40, 40, 45], [70, 80, 120], [190, 60, 70], [200, 180, 150]]
)


def surgical_mask(rng: np.random.Generator, picture: Picture, face: FoundFace) -> Picture:
    colour = CLOTHS[rng.integers(len(CLOTHS))] + rng.normal(0, 10, 3)
    top, side, low = rng.uniform(0.4, 0.62), rng.uniform(0.85, 1.05), rng.uniform(1.6, 1.9)
    outline = [(0, top), (0.4, top + 0.1), (side, 0.6), (0.95 * side, 1.15), (0.5, low), (0, low + 0.05)]
    outline += [(-x, y) for x, y in outline[::-1]]
    paint = shaded(rng, picture, colour, rng.uniform(1, 5))
    out = polygon(picture, ring(outline, face), paint, 0.012 * face.box[2])
    for y in np.linspace(top + 0.3, low - 0.3, 3) if rng.random() < 0.6 else ():
        crease = ring([(-0.8 * side, y - 0.05), (0, y), (0.8 * side, y - 0.05)], face)
        cv2.polylines(out, [np.round(crease).astype(np.int32)], False, np.clip(colour * 0.8, 0, 255).tolist(), 1)
    return out


def cloth(rng: np.random.Generator, picture: Picture, face: FoundFace) -> Picture:
    """A scarf up to the nose, with a pattern."""
    colour = rng.uniform(10, 220, 3)
    paint = shaded(rng, picture, colour, rng.uniform(3, 25))
    period = face.box[2] * rng.uniform(0.03, 0.15)
    rows, columns = np.mgrid[: picture.shape[0], : picture.shape[1]]
    wave = np.sin(2 * np.pi * (rows * rng.uniform(-1, 1) + columns * rng.uniform(-1, 1)) / period)[..., None]
    paint = paint + rng.uniform(0, 50) * wave
    top = rng.uniform(0.35, 0.7)
    outline = [(-1.3, top), (0, top + rng.uniform(-0.1, 0.1)), (1.3, top), (1.4, 2.6), (-1.4, 2.6)]
    return polygon(picture, ring(outline, face), paint, 0.012 * face.box[2])


def mouth_bar(rng: np.random.Generator, picture: Picture, face: FoundFace) -> Picture:
    tone = float(rng.choice([0, 15, 128, 240, 255]))
    wide, high = rng.uniform(0.55, 1.0), rng.uniform(0.2, 0.35)
    bar = ring([(-wide, 1.1 - high), (wide, 1.1 - high), (wide, 1.1 + high), (-wide, 1.1 + high)], face)
    return polygon(picture, bar, np.full(3, tone), 0.5)


EYES: dict[str, Change] = {"sunglasses": sunglasses, "bar over the eyes": eye_bar}
MOUTH: dict[str, Change] = {"surgical mask": surgical_mask, "cloth": cloth, "bar over the mouth": mouth_bar}


def features_of(picture: Picture, face: FoundFace) -> np.ndarray | None:
    return scope_features(*context_crop(picture, face.box, MARGIN, SIZE), face.landmarks)


class Faces:
    """The features of all faces by split, class and group."""

    def __init__(self, data: Path) -> None:
        self.data = data
        self.finder = FaceFinder()
        self.rows: list[np.ndarray] = []
        self.about: list[tuple[str, str, str]] = []  # split, class, group

    def add(self, split: str, kind: str, group: str, picture: Picture, face: FoundFace) -> None:
        row = features_of(picture, face)
        if row is not None:
            self.rows.append(row)
            self.about.append((split, kind, group))

    def found(self, path: Path) -> tuple[Picture, FoundFace] | None:
        pixels = cv2.imread(str(path))
        if pixels is None:
            return None
        picture = np.ascontiguousarray(pixels[..., ::-1])
        faces = self.finder.find(picture)
        return (picture, faces[0]) if faces and faces[0].box[2] >= 32 else None

    def glasses(self) -> set[str]:
        """Names of portraits whose masks have glasses, and no eyes."""
        names = set()
        for path in sorted((self.data / "faces/celebamask_256/masks").iterdir()):
            labels = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
            eyes, glasses = np.isin(labels, (74, 84)).sum(), (labels == 180).sum()
            if eyes < 30 and glasses > 300:
                names.add(path.stem)
        return names

    def collect(self, progress: Any) -> None:
        samples, worn = load_collection(self.data), self.glasses()
        counts: Counter[tuple[str, str]] = Counter()
        chosen = []
        for sample in sorted(samples, key=lambda one: zlib.crc32(Path(one.path).name.encode())):
            group = sample.family if sample.label else f"real {sample.source}"
            if sample.split in MOST and Path(sample.path).stem not in worn:
                counts[sample.split, group] += 1
                worn_here = sample.split == "train" and Path(sample.path).stem in COVERED_EYES
                if counts[sample.split, group] <= MOST[sample.split][sample.label] or worn_here:
                    chosen.append((sample, group))
        for number, (sample, group) in enumerate(chosen, start=1):
            progress.update("faces", number, len(chosen), "collections")
            one = self.found(Path(sample.path))
            if one is None:
                continue
            rng = np.random.default_rng(zlib.crc32(Path(sample.path).name.encode()))
            forged = "forged" if sample.label else "real"
            stem = Path(sample.path).stem
            if stem in UNCLEAR:
                continue
            if stem in COVERED_EYES | COVERED_MOUTH:
                self._worn(rng, sample.split, "covered_eyes" if stem in COVERED_EYES else "covered_mouth", *one)
                continue
            for name, change in self._changes(rng, sample.split):
                self.add(sample.split, forged, f"{group}, {name}", change(rng, *one), one[1])
            if sample.label:
                continue
            for kind, makers in (("covered_eyes", EYES), ("covered_mouth", MOUTH), ("drawing", DRAWN)):
                name = list(makers)[int(rng.integers(len(makers)))]
                self.add(sample.split, kind, name, self._as_published(rng, makers[name](rng, *one), one[1]), one[1])
            if sample.split == "test":
                name = list(DRAWN_OTHERWISE)[int(rng.integers(len(DRAWN_OTHERWISE)))]
                self.add("test", "drawing", name, DRAWN_OTHERWISE[name](rng, *one), one[1])
        for stem in sorted(worn):
            one = self.found(self.data / f"faces/celebamask_256/images/{stem}.jpg")
            if one is not None:
                self.add("test", "covered_eyes", WORN, *one)
        self._others(progress)

    def _changes(self, rng: np.random.Generator, split: str) -> Iterator[tuple[str, Change]]:
        """As it is and, for training, one change; all of them for the test."""
        yield "as it is", IN_SCOPE["as it is"]
        more = list(IN_SCOPE)[1:]
        for name in more if split != "train" else [more[int(rng.integers(len(more)))]]:
            yield name, IN_SCOPE[name]

    def _worn(self, rng: np.random.Generator, split: str, kind: str, picture: Picture, face: FoundFace) -> None:
        """For training and validation, changed and mirrored. A classifier chose them, so that none is for the test."""
        if split == "test":
            return
        width = picture.shape[1]
        mirrored = face.landmarks[[1, 0, 2, 4, 3]] * np.float32([-1, 1]) + np.float32([width - 1, 0])
        x, y, w, h = face.box
        flipped = np.ascontiguousarray(picture[:, ::-1]), FoundFace((width - x - w, y, w, h), mirrored, face.confidence)
        for change in IN_SCOPE.values():
            for one in ((picture, face), flipped):
                self.add(split, kind, "worn", change(rng, *one), one[1])

    def _as_published(self, rng: np.random.Generator, picture: Picture, face: FoundFace) -> Picture:
        return compressed(rng, picture, face) if rng.random() < 0.3 else picture

    def _others(self, progress: Any) -> None:
        """Drawings by hand, animals, grey portraits."""
        folders = {
            "sketch/cufs/CUHK_student_train/sketches": ("test", "drawing", "CUHK student, drawn by artists"),
            "sketch/cufs/CUHK_student_train/photos": ("test", "real", "real CUHK student"),
        }
        for kind in ("dog", "giraffe", "horse"):
            folders[f"sketch/pacs_small/photo/{kind}"] = ("animals", "animal", f"PACS {kind}, photographs")
            folders[f"sketch/pacs_small/sketch/{kind}"] = ("train", "drawing", "PACS, drawn animals")
        folders["sketch/pacs_small/photo/person"] = ("test", "real", "real PACS person")
        folders["sketch/pacs_small/sketch/person"] = ("train", "drawing", "PACS, drawn people")
        for person in range(1, 21):
            folders[f"faces/orl_att/s{person}"] = ("test", "real", "real ORL")
        self.looked: Counter[str] = Counter()
        for number, (folder, about) in enumerate(folders.items(), start=1):
            progress.update("faces", number, len(folders), "others")
            paths = sorted(p for p in (self.data / folder).iterdir() if p.suffix in (".jpg", ".png", ".pgm"))
            for path in paths[:250]:
                self.looked[about[2]] += 1
                one = self.found(path)
                if one is not None:
                    self.add(*about, *one)


def learn(x: np.ndarray, about: list[tuple[str, str, str]], kind: str) -> dict[str, Any]:
    """Weights, limit and strength of one classifier, by the rule."""
    split, label = (np.array([one[place] for one in about]) for place in (0, 1))
    scope = np.isin(label, ("real", "forged"))
    rest = np.isin(label, [other for other in SCOPE_CLASSES if other != kind])
    train, val = split == "train", split == "val"
    # What another classifier is for counts as in scope of this one: a mask is no drawing.
    rows = train & (scope | (label == kind) | rest)
    spread = x[rows].std(axis=0) + 1e-3
    best: dict[str, Any] = {}
    for strength in STRENGTHS:
        model = LogisticRegression(C=strength, class_weight="balanced", max_iter=400)
        model.fit(x[rows] / spread, label[rows] == kind)
        weights, bias = model.coef_[0] / spread, float(model.intercept_[0])
        scores = x @ weights + bias
        limits = []
        for which in ("real", "forged"):
            own = np.sort(scores[val & (label == which)])
            limits.append(own[len(own) - 1 - int(MOST_OUT * len(own))])
        limit = float(np.nextafter(max(limits), np.inf)) + 1e-4
        recall = float((scores[val & (label == kind)] >= limit).mean())
        print(kind, strength, round(limit, 3), round(recall, 3), flush=True)
        if not best or recall > best["recall"]:
            best = {"weights": weights, "bias": bias, "limit": limit, "strength": strength, "recall": recall}
    return best


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("record", type=Path)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--work", type=Path, default=Path("runs/scope"))
    chosen = parser.parse_args()
    chosen.work.mkdir(parents=True, exist_ok=True)
    kept = chosen.work / "features.npz"
    if not kept.is_file():
        faces = Faces(chosen.data)
        with progress_bars() as progress:
            faces.collect(progress)
        np.savez(kept, x=np.array(faces.rows), about=np.array(faces.about), looked=json.dumps(faces.looked))
    stored = np.load(kept)
    x, about = stored["x"].astype(np.float64), [tuple(row) for row in stored["about"].tolist()]
    looked = json.loads(str(stored["looked"]))
    heads, columns = {}, {}
    for kind in SCOPE_CLASSES:
        best = learn(x, about, kind)
        weights = np.round(best["weights"], 4)
        heads[kind] = {
            "limit": round(best["limit"], 4),
            "bias": round(best["bias"], 4),
            "strength": best["strength"],
            "weights": weights.tolist(),
        }
        columns[kind] = x @ weights + heads[kind]["bias"] >= heads[kind]["limit"]
    groups = defaultdict(list)
    for row, (split, label, group) in enumerate(about):
        # Of faces in scope the source, and what was done to them, each on its own.
        for part in group.split(", ") if label in ("real", "forged") else [group]:
            groups[split, label, part].append(row)
    rows = []
    for (split, label, group), own in sorted(groups.items()):
        if split != "train":
            shares = {kind: share_interval(int(columns[kind][own].sum()), len(own)) for kind in SCOPE_CLASSES}
            more = {"pictures": looked[group]} if group in looked else {}
            rows.append({"split": split, "class": label, "group": group, "faces": len(own), **shares, **more})
    totals = []
    for split, label in (("test", "real"), ("test", "forged")):
        own = [row for row, one in enumerate(about) if one[0] == split and one[1] == label]
        totals.append(
            {
                "class": label,
                "faces": len(own),
                **{kind: share_interval(int(columns[kind][own].sum()), len(own)) for kind in SCOPE_CLASSES},
            }
        )
    trained = Counter(one[1] for one in about if one[0] == "train")
    head = {"command": command(), "versions": versions(), "trained_on": trained, "limits": {}}
    head["animals"] = {
        group: [sum(one[2] == group for one in about), count]
        for group, count in looked.items()
        if group.endswith(", photographs")
    }
    head["limits"] = {kind: {key: heads[kind][key] for key in ("limit", "strength")} for kind in SCOPE_CLASSES}
    write_record(chosen.record, {**head, "totals": totals, "rows": rows})
    OUT.write_text(json.dumps({"heads": heads}) + "\n", encoding="utf-8")


TEXT = """## Faces out of scope

The share of faces taken for a drawing (refused), for having covered eyes, and for a covered mouth (both remarked on),
with 95 % intervals (Clopper and Pearson), none of which the classifiers were trained on. Photographs and forgeries as
they are, grey, compressed, small, dark and bright. The limits are the lowest at which, on the validation split, at most
{most:.1%} of the photographs and of the forgeries are out of scope; trained on {trained}.
The drawings by artists (CUHK) and two of the filters are of sources that nothing was trained on; the portraits with
glasses are of people of CelebAMask-HQ who were not trained on; the coverings are painted on faces of held-out people by
the makers that were trained on. `experiments/plain/scope.py`.

Sunglasses that are really worn are seen far less often than painted ones: few were there to learn from. A first round,
in which faces with such glasses still stood among those in scope, saw none of the {glasses} portraits; they were sorted
out after that, so that these portraits are no untouched test any more.

Of photographs of animals the face detector takes for people: {animals}; {refused} of these are refused. Paintings,
statues, toys, photographs of screens, old film and infrared are not in the data: nothing is known of them.
"""


def section(root: Path) -> str:
    """What the record beside this script says; `root` is the repository's."""
    record = read_record(root, "plain/scope")
    lines = []
    for row in record["totals"]:
        name = {"real": "all photographs", "forged": "all forgeries"}[row["class"]]
        lines.append([f"**{name}**", *_cells(row)])
    order = ["real", "forged", "drawing", "covered_eyes", "covered_mouth"]
    for row in sorted(record["rows"], key=lambda one: order.index(one["class"]) if one["class"] in order else 9):
        if row["split"] == "test":
            kind = {"real": "photographs, ", "forged": "forgeries, "}.get(row["class"], "")
            lines.append([kind + row["group"].removeprefix("real "), *_cells(row)])
    trained = ", ".join(f"{count:,} faces ({kind.replace('_', ' ')})" for kind, count in record["trained_on"].items())
    animals = ", ".join(
        f"{faces} of {pictures} ({group.removeprefix('PACS ').removesuffix(', photographs')})"
        for group, (faces, pictures) in record["animals"].items()
    )
    refused = sum(row["drawing"][0] * row["faces"] for row in record["rows"] if row["class"] == "animal")
    heads = ["faces", "drawing", "covered eyes", "covered mouth", "number"]
    glasses = next(row["faces"] for row in record["rows"] if row["group"] == WORN)
    text = TEXT.format(most=MOST_OUT, trained=trained, animals=animals, refused=round(refused), glasses=glasses)
    return f"{text}\n{markdown(heads, lines)}\n"


def _cells(row: dict[str, Any]) -> list[str]:
    return [*("{:.3f} [{:.3f}, {:.3f}]".format(*row[kind]) for kind in SCOPE_CLASSES), str(row["faces"])]


if __name__ == "__main__":
    main()
