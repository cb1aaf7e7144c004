"""A set of drawn concepts, to train sketch search with, in the layout of classes. Lab only: resvg-py, torch.

Some 850 animals, plants, foods, objects, vehicles and places of Unicode's emoji, each as Fluent Emoji draws it in three
styles (Microsoft, MIT) and OpenMoji in one (CC-BY-SA 4.0). `photo/NAME/` has the shaded and the flat picture;
`sketch/NAME/` a one-colour glyph and the bent lines of the shaded picture, or OpenMoji's line drawing.
"""

import hashlib
import json
import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
import resvg_py

from unmask.errors import DataError
from unmask.forging.set_record import open_record, png, refuse_another, write_specification, write_whole
from unmask.lab.search.line_drawing import jittered, xdog_drawing
from unmask.packs.assets import FLUENT_3D, FLUENT_FLAT, FLUENT_GLYPHS, OPENMOJI, Asset, fetch
from unmask.progress import SILENT, Progress

Artist = Literal["fluent", "openmoji"]
GROUPS = ("Activities", "Animals & Nature", "Food & Drink", "Objects", "Travel & Places")
"""Of Unicode: what can be drawn and photographed; faces, flags and signs are left out."""


@dataclass(frozen=True)
class Concept:
    """A thing that all styles draw.

    Attributes:
        name: words with hyphens, "fire-engine".
        group: of `GROUPS`.
        code: its code points in hexadecimal, "1f692".
    """

    name: str
    group: str
    code: str


@dataclass(frozen=True)
class _Specification:
    sketches: str
    size: int
    seed: int


class ConceptPictures:
    """The pictures of all styles; fetched once.

    Raises:
        AssetUnavailable: a package is not to be had.
    """

    def __init__(self) -> None:
        glyphs, flat = _read(FLUENT_GLYPHS), _read(FLUENT_FLAT)
        self._glyphs, self._flat = _icons(glyphs), _icons(flat)
        self._shaded, self._outlines = _read(FLUENT_3D), _read(OPENMOJI)
        codes = {name: code for code, name in _json(flat, "chars.json").items()}
        shaded = {_plain(Path(name).stem): name for name in self._shaded if name.endswith(".webp")}
        outlines = {_plain(Path(name).stem): name for name in self._outlines if "/black/svg/" in name}
        self.concepts: list[Concept] = []
        self._files: dict[str, tuple[str, str]] = {}
        for group in GROUPS:
            for name in _json(flat, "metadata.json")["categories"][group]:
                code = _plain(codes.get(name, ""))
                if name in self._glyphs and name in self._flat and code in shaded and code in outlines:
                    self.concepts.append(Concept(name, group, code))
                    self._files[name] = shaded[code], outlines[code]

    def shaded(self, concept: Concept, size: int) -> np.ndarray:
        """As a shaded body on white, uint8 (size, size, 3) RGB."""
        data = np.frombuffer(self._shaded[self._files[concept.name][0]], np.uint8)
        return _on_white(cv2.imdecode(data, cv2.IMREAD_UNCHANGED), size)

    def flat(self, concept: Concept, size: int) -> np.ndarray:
        """In flat colours on white, uint8 (size, size, 3) RGB."""
        return _render(self._flat[concept.name], size)

    def glyph(self, concept: Concept, size: int) -> np.ndarray:
        """As a black glyph on white, uint8 (size, size, 3) RGB."""
        return _render(self._glyphs[concept.name], size)

    def outline(self, concept: Concept, size: int) -> np.ndarray:
        """As OpenMoji's line drawing, black on white, uint8 (size, size, 3) RGB."""
        return _render(self._outlines[self._files[concept.name][1]].decode(), size)


def draw_concepts(
    out: Path, sketches: Artist = "fluent", size: int = 160, seed: int = 0, progress: Progress = SILENT
) -> int:
    """Write the set; one that was begun is finished.

    Args:
        out: folder of the set.
        sketches: whose drawings are its sketches.
        size: side of the pictures in pixels.
        seed: of bent lines.
        progress: of the drawing.

    Returns:
        How many concepts it has.

    Raises:
        DataError: the folder holds something else.
        AssetUnavailable: a package is not to be had.
    """
    asked = _Specification(sketches, size, seed)
    refuse_another(out, asked)
    pictures = ConceptPictures()
    write_specification(out, asked)
    with open_record(out, lambda row: row["files"]) as record:
        for number, concept in enumerate(pictures.concepts, start=1):
            if concept.name not in record.rows:
                files = _drawn(pictures, concept, asked)
                for name, pixels in files.items():
                    write_whole(out / name, png(pixels))
                record.add({"path": concept.name, "group": concept.group, "code": concept.code, "files": list(files)})
            progress.update("drawing", number, len(pictures.concepts))
    return len(pictures.concepts)


def _drawn(pictures: ConceptPictures, concept: Concept, asked: _Specification) -> dict[str, np.ndarray]:
    name, size = concept.name, asked.size
    shaded = pictures.shaded(concept, size)
    files = {f"photo/{name}/shaded.png": shaded, f"photo/{name}/flat.png": pictures.flat(concept, size)}
    if asked.sketches == "openmoji":
        return {**files, f"sketch/{name}/openmoji.png": pictures.outline(concept, size)}
    digest = hashlib.sha256(f"{asked.seed}:{name}".encode()).digest()
    rng = np.random.default_rng(int.from_bytes(digest[:8], "big"))
    lines = jittered(xdog_drawing(shaded), rng)
    return {**files, f"sketch/{name}/glyph.png": pictures.glyph(concept, size), f"sketch/{name}/lines.png": lines}


def _read(asset: Asset) -> dict[str, bytes]:
    """All files of an archive by their path in it."""
    with tarfile.open(fetch(asset)) as archive:
        streams = ((member.name, archive.extractfile(member)) for member in archive if member.isfile())
        return {name: stream.read() for name, stream in streams if stream is not None}


def _json(files: dict[str, bytes], name: str) -> Any:
    return json.loads(files[f"package/{name}"])


def _icons(files: dict[str, bytes]) -> dict[str, str]:
    """The drawings of an icon set as SVG, by name; one without a colour of its own is black."""
    content = _json(files, "icons.json")
    wide, high = content.get("width", 16), content.get("height", 16)
    head = '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {} {}" color="#000">'
    return {
        name: head.format(icon.get("width", wide), icon.get("height", high)) + icon["body"] + "</svg>"
        for name, icon in content["icons"].items()
    }


def _plain(code: str) -> str:
    """Code points in lower case, without the selector of coloured pictures."""
    return code.lower().replace("-fe0f", "")


def _render(svg: str, size: int) -> np.ndarray:
    data = bytes(resvg_py.svg_to_bytes(svg_string=svg, width=size, height=size, background="#ffffff"))
    return _on_white(cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED), size)


def _on_white(picture: np.ndarray | None, size: int) -> np.ndarray:
    """BGR, with or without transparency, as RGB on white in a square of `size`."""
    if picture is None:
        raise DataError("a picture of the packages cannot be decoded; delete their archives in the cache")
    colours: np.ndarray = picture[..., :3].astype(np.float32)
    if picture.shape[2] == 4:
        share = picture[..., 3:].astype(np.float32) / 255
        colours = colours * share + 255 * (1 - share)
    resized = cv2.resize(colours, (size, size), interpolation=cv2.INTER_AREA)
    return cv2.cvtColor(np.clip(resized + 0.5, 0, 255).astype(np.uint8), cv2.COLOR_BGR2RGB)
