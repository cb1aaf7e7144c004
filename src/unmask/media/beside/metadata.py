"""EXIF, XMP, and the settings that image generators write into their pictures."""

import io
import re
import warnings
import zlib
from collections.abc import Iterator

from PIL import ExifTags, Image

from unmask.media import jpeg, jxl, png
from unmask.media.beside import Beside, shortened
from unmask.media.kinds import HEAD_BYTES, sniff
from unmask.media.synthetic_mark import SYNTHETIC_TERMS, source_type_of, xmp_packet

_EDITORS = re.compile(
    r"photoshop|lightroom|gimp|affinity|snapseed|facetune|faceapp|canva|picsart|pixelmator|luminar|meitu|beautycam|"
    r"remini|paint\.net|krita|capture one|darktable|topaz|gigapixel",
    re.IGNORECASE,
)
_GENERATORS = re.compile(
    r"midjourney|dall[-·. ]?e\b|stable ?diffusion|novelai|comfyui|invokeai|fooocus|firefly|made with google ai|"
    r"imagen\b|ideogram|leonardo\.ai|image creator|openai|chatgpt|flux\.1|\bsdxl\b|thispersondoesnotexist|"
    r"runway(?:ml)?\b",
    re.IGNORECASE,
)
_KEYWORDS = {
    "parameters": "Stable Diffusion web UI",
    "prompt": "ComfyUI",
    "workflow": "ComfyUI",
    "dream": "InvokeAI",
    "sd-metadata": "InvokeAI",
    "invokeai_metadata": "InvokeAI",
    "generation_data": "an image generator",
    "fooocus_scheme": "Fooocus",
}
_SETTINGS = re.compile(r"\bSteps: \d+.{0,200}\bSampler: ", re.DOTALL)
_TAGS = {
    0x010F: "camera maker",
    0x0110: "camera model",
    0x0131: "software",
    0x000B: "software",
    0x0132: "changed",
    0x013B: "artist",
    0x010E: "description",
    0x8298: "copyright",
}
_SUB_TAGS = {0x9003: "taken", 0xA434: "lens", 0x9286: "comment"}
_PACKED = (
    "The metadata are packed with Brotli, which is not unpacked here.",
    "Nothing is known of them: programs for JPEG XL may do that to save space.",
)
_MOST_TEXT = 1 << 20  # bytes of a text chunk that are looked at
_TOOL = re.compile(rb"(?:CreatorTool|softwareAgent)\s*(?:=\s*[\"']([^\"']{1,200})|>([^<]{1,200})<)")


def exif_of(data: bytes) -> tuple[Image.Exif, bytes]:
    """The EXIF block of a picture file, read, and the TIFF bytes behind it; both empty if there is none.

    Raises:
        PackedMetadataError: the block of a JPEG XL file is packed.
    """
    exif = Image.Exif()
    if data.startswith(b"\xff\xd8"):
        block = jpeg.exif(data) or b""
    elif data.startswith(b"\x89PNG"):
        block = png.exif(data) or b""
    elif _kind(data) == "jxl":
        block = jxl.metadata(data, b"Exif") or b""
    elif _kind(data) == "tiff":
        block = data  # the tags of EXIF are those of TIFF
    else:
        block = _held_by_pillow(data, "exif")
    if block:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            exif.load(block)
    return exif, block.removeprefix(b"Exif\0\0")


def _packet_of(data: bytes) -> bytes | None:
    """The XMP packet of a picture file, None if there is none; raises as `exif_of`."""
    if data.startswith((b"\xff\xd8", b"\x89PNG")):
        return xmp_packet(data)
    if _kind(data) == "jxl":
        return jxl.metadata(data, b"xml ")
    return _held_by_pillow(data, "xmp") or None


def _kind(data: bytes) -> str | None:
    kind = sniff(data[:HEAD_BYTES])
    return None if kind is None else kind.format


def _held_by_pillow(data: bytes, name: str) -> bytes:
    """What Pillow, or the reader of HEIC, has of a file's metadata by a name; empty if it has none."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if _kind(data) == "heif":
            from pi_heif import HeifImageFile  # as in the decoder: loaded when the first such file comes

            with HeifImageFile(io.BytesIO(data)) as picture:
                return picture.info.get(name) or b""
        try:
            with Image.open(io.BytesIO(data)) as picture:
                return picture.info.get(name) or b""
        except OSError:  # of a kind that Pillow alone does not open
            return b""


def exif_finding(data: bytes) -> Beside:
    """What the EXIF block says of camera, software and time."""
    try:
        exif, block = exif_of(data)
    except jxl.PackedMetadataError:
        return Beside("exif", "not_checked", *_PACKED)
    if not block:
        return Beside(
            "exif",
            "absent",
            "There is no EXIF block.",
            "Cameras write one; websites, messengers, screenshots and image generators mostly leave none. Its absence "
            "says nothing of forgery.",
        )
    details: dict[str, str] = {}
    for tag, name in _TAGS.items():
        if tag in exif:
            details.setdefault(name, shortened(exif[tag]))
    taken = exif.get_ifd(ExifTags.IFD.Exif)
    for tag, name in _SUB_TAGS.items():
        if tag in taken and name != "comment":
            details[name] = shortened(taken[tag])
    if exif.get_ifd(ExifTags.IFD.GPSInfo):
        details["position"] = "given"
    tool = details.get("software", "")
    camera = " ".join(details[name] for name in ("camera maker", "camera model") if name in details)
    said = f"It names the camera {camera}" if camera else "It names no camera"
    said += f", and the software {tool}." if tool else "."
    if _EDITORS.search(tool):
        return Beside(
            "exif",
            "notable",
            said,
            "The file was saved by an editing program. That may be a crop or a change of colours as well as a forgery; "
            "the original file should be asked for.",
            details,
        )
    meaning = "Consistent with the file as a camera or phone wrote it, or with a copy that kept its metadata."
    if not camera:
        meaning = "Written by software; the block was stripped, or was never that of a camera."
    return Beside("exif", "present", said, f"{meaning} Anybody can write or copy such a block.", details)


def xmp_finding(data: bytes) -> Beside:
    """What the XMP packet says of programs, and of the digital source type."""
    try:
        packet = _packet_of(data)
    except jxl.PackedMetadataError:
        return Beside("xmp", "not_checked", *_PACKED)
    if packet is None:
        return Beside("xmp", "absent", "There is no XMP packet.", "Most files have none. Its absence says nothing.")
    tools = list(dict.fromkeys(_decoded(one or other) for one, other in _TOOL.findall(packet)))
    details = {"programs": shortened(", ".join(tools))} if tools else {}
    term = source_type_of(packet)
    if term is not None:
        details["digital source type"] = term
    if b"DerivedFrom" in packet:
        details["derived from"] = "another file"
    if term in SYNTHETIC_TERMS:
        return Beside(
            "xmp",
            "notable",
            f"It calls the picture {term}: made or changed by software.",
            "Whoever wrote the file says so. Anybody can write such a mark or strip it.",
            details,
        )
    if any(map(_EDITORS.search, tools)):
        return Beside(
            "xmp",
            "notable",
            f"It names an editing program: {details['programs']}.",
            "The file was worked on. That may be a crop or a change of colours as well as a forgery; the original file "
            "should be asked for.",
            details,
        )
    return Beside(
        "xmp",
        "present",
        f"It names {details['programs']}." if tools else "It names no program.",
        "Written by a camera or a program; anybody can write or copy such a packet.",
        details,
    )


def generator_finding(data: bytes) -> Beside:
    """Whether the file holds the settings of an image generator, or names one."""
    try:
        texts = list(_texts(data))
    except jxl.PackedMetadataError:
        return Beside("generator", "not_checked", *_PACKED)
    for place, text in texts:
        source = _KEYWORDS.get(place.lower())
        named = _GENERATORS.search(text)
        if source is None and not named and not _SETTINGS.search(text):
            continue
        if source is None:
            source = named[0] if named else "a diffusion model"
        return Beside(
            "generator",
            "notable",
            f"The metadata hold what an image generator writes ({source}).",
            "Such settings are written when a picture is generated, and hardly by accident; but they can be copied "
            "into any picture. The picture should be taken for a generated one until its source is known.",
            {place: shortened(text)},
        )
    return Beside(
        "generator",
        "absent",
        "No settings of an image generator are there.",
        "Most generated pictures lose them on their way, and many never had any: their absence says nothing.",
    )


def _texts(data: bytes) -> Iterator[tuple[str, str]]:
    """Texts of a picture file by where they stand."""
    if data.startswith(b"\x89PNG"):
        yield from _png_texts(data)
    if data.startswith(b"\xff\xd8"):
        for marker, start, end in jpeg.segments(data):
            if marker == 0xFE:
                yield "comment", _decoded(data[start + 4 : end])
    exif, block = exif_of(data)
    if block:
        for tag, name in _TAGS.items():
            if tag in exif:
                yield name, str(exif[tag])
        comment = exif.get_ifd(ExifTags.IFD.Exif).get(0x9286)
        if isinstance(comment, bytes):
            code, text = comment[:8], comment[8:]
            wide = "utf-16-be" if text[:1] == b"\0" else "utf-16-le"
            yield "comment", text.decode(wide if code.startswith(b"UNICODE") else "utf-8", "replace")
        elif comment is not None:
            yield "comment", str(comment)
    packet = _packet_of(data)
    if packet is not None:
        for one, other in _TOOL.findall(packet):
            yield "program", _decoded(one or other)


def _png_texts(data: bytes) -> Iterator[tuple[str, str]]:
    for chunk in png.chunks(data):
        body = data[chunk.start + 8 : min(chunk.end - 4, chunk.start + 8 + _MOST_TEXT)]
        keyword, _, rest = body.partition(b"\0")
        if chunk.name == b"tEXt":
            yield _decoded(keyword), rest.decode("latin-1")
        elif chunk.name == b"zTXt":
            yield _decoded(keyword), _inflated(rest[1:])
        elif chunk.name == b"iTXt" and not keyword.startswith(b"XML:com.adobe.xmp"):
            text = rest[2:].split(b"\0", 2)[-1]
            yield _decoded(keyword), _inflated(text) if rest[:1] == b"\1" else _decoded(text)


def _inflated(packed: bytes) -> str:
    try:
        return _decoded(zlib.decompressobj().decompress(packed, _MOST_TEXT))
    except zlib.error:
        return ""


def _decoded(text: bytes) -> str:
    return text.decode("utf-8", "replace")
