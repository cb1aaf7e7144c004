"""Kinds of pictures and films that are known but not read, so that a refusal can name them and a folder list them."""

import re
from functools import cache
from typing import NamedTuple

_RAW_REMEDY = "export it as JPEG or TIFF"
_PICTURE_REMEDY = "save it as PNG, TIFF or JPEG"
_VIDEO_REMEDY = "convert it to MP4"

CAMERA_RAW = f"This is a camera raw file, of a kind that is not read; {_RAW_REMEDY}."


class _Unread(NamedTuple):
    name: str
    remedy: str
    extensions: tuple[str, ...]
    beginning: str = ""
    """A pattern that the first bytes match; empty if only the name tells."""


# An extension that also means other things (.hdr, .raw, .fit, .rgb, .sgi, .ai, .dat) is left out: there only the
# content counts. A PDF or an office file is neither picture nor film.
_KINDS = (
    _Unread("a Photoshop file", _PICTURE_REMEDY, (".psd", ".psb"), r"8BPS\0[\1\2]"),
    _Unread("a GIMP file", _PICTURE_REMEDY, (".xcf",), r"gimp xcf "),
    _Unread(
        "a JPEG 2000 picture",
        _PICTURE_REMEDY,
        (".jp2", ".j2k", ".jpf", ".jpx", ".jpm", ".j2c", ".jpc", ".jph", ".jhc"),
        r"\0\0\0\x0cjP  \r\n\x87\n|\xff\x4f\xff\x51",
    ),
    _Unread("a JPEG XR picture", _PICTURE_REMEDY, (".jxr", ".wdp", ".hdp"), r"II\xbc[\0\1]"),
    _Unread("a JPEG-LS picture", _PICTURE_REMEDY, (".jls",)),
    _Unread("a Targa picture", _PICTURE_REMEDY, (".tga", ".targa")),
    _Unread(
        "a Netpbm picture",
        _PICTURE_REMEDY,
        (".ppm", ".pgm", ".pbm", ".pnm", ".pam", ".pfm"),
        r"P[1-6]\s+(?:#[^\n]*\n\s*)*\d+\s+(?:#[^\n]*\n\s*)*\d+\s|P7\n(?:#[^\n]*\n)*[A-Z]+ |P[Ff]\s\d+\s\d+\s",
    ),
    _Unread("an icon", _PICTURE_REMEDY, (".ico", ".cur"), r"\0\0[\1\2]\0[\x01-\x40]\0.{3}\0.{10}\0\0"),
    _Unread("an OpenEXR picture", _PICTURE_REMEDY, (".exr",), r"\x76\x2f\x31\x01"),
    _Unread("a Radiance picture", _PICTURE_REMEDY, (), r"#\?(?:RADIANCE|RGBE)\s"),
    _Unread("a DirectDraw texture", _PICTURE_REMEDY, (".dds",), r"DDS \x7c\0\0\0"),
    _Unread("a PCX picture", _PICTURE_REMEDY, (".pcx", ".dcx"), r"\x0a[\0\2-\5][\0\1][\1\2\4\x08]"),
    _Unread("a Silicon Graphics picture", _PICTURE_REMEDY, (), r"\x01\xda[\0\1][\1\2]\0[\1-\3]"),
    _Unread("a DPX or Cineon scan", _PICTURE_REMEDY, (".dpx", ".cin"), r"SDPX|XPDS|\x80\x2a\x5f\xd7"),
    _Unread("a QuickDraw picture", _PICTURE_REMEDY, (".pict", ".pct")),
    _Unread("a Sun raster picture", _PICTURE_REMEDY, (".ras", ".sun"), r"\x59\xa6\x6a\x95"),
    _Unread("an X11 picture", _PICTURE_REMEDY, (".xpm", ".xbm", ".xwd"), r"/\* XPM \*/"),
    _Unread("a MIFF or VIFF picture", _PICTURE_REMEDY, (".miff", ".viff"), r"id=ImageMagick"),
    _Unread("a WAP bitmap", _PICTURE_REMEDY, (".wbmp",)),
    _Unread("a BPG picture", _PICTURE_REMEDY, (".bpg",), r"BPG\xfb"),
    _Unread("a QOI picture", _PICTURE_REMEDY, (".qoi",), r"qoif"),
    _Unread("a FITS picture", _PICTURE_REMEDY, (".fits",), r"SIMPLE  = "),
    _Unread("a DICOM picture", _PICTURE_REMEDY, (".dcm", ".dicom"), r".{128}DICM"),
    _Unread("a JNG or MNG picture", _PICTURE_REMEDY, (".jng", ".mng"), r"[\x8a\x8b][JM]NG\r\n\x1a\n"),
    _Unread("a FlashPix or FLIF picture", _PICTURE_REMEDY, (".fpx", ".flif"), r"FLIF"),
    _Unread("an SVG drawing", _PICTURE_REMEDY, (".svg", ".svgz"), r"\s*(?:<\?xml.{0,800}?)?<svg[\s>]"),
    _Unread("an encapsulated PostScript file", _PICTURE_REMEDY, (".eps",), r"%!PS-Adobe-\S+ EPSF|\xc5\xd0\xd3\xc6"),
    # Those that are TIFF files are recognised when they are decoded.
    _Unread(
        "a camera raw file",
        _RAW_REMEDY,
        (
            *(".dng", ".nef", ".nrw", ".cr2", ".cr3", ".crw", ".arw", ".sr2", ".srf", ".srw", ".orf", ".raf", ".rw2"),
            *(".rwl", ".pef", ".3fr", ".fff", ".iiq", ".erf", ".mef", ".mos", ".mrw", ".x3f", ".kdc", ".dcr"),
        ),
        r"FUJIFILMCCD-RAW|II(?:RO|RS|U\0)|MMOR|II\x1a\0\0\0HEAPCCDR|\0MRM|FOVb|....ftypcrx ",
    ),
    _Unread("a RealMedia file", _VIDEO_REMEDY, (".rm", ".rmvb"), r"\.RMF\0"),
    _Unread("a Flash film", _VIDEO_REMEDY, (".swf",), r"[FCZ]WS[\x01-\x40].{3}[\0-\x0f]"),
    _Unread("a RED raw film", _VIDEO_REMEDY, (".r3d",), r"....RED[12]"),
    _Unread("a NUT film", _VIDEO_REMEDY, (".nut",), r"nut/multimedia container"),
    _Unread("a GXF film", _VIDEO_REMEDY, (".gxf",), r"\0\0\0\0\x01\xbc"),
    _Unread("a DV film", _VIDEO_REMEDY, (".dv",)),
    _Unread("an uncompressed YUV4MPEG film", _VIDEO_REMEDY, (".y4m",), r"YUV4MPEG2 "),
    _Unread("an IVF film", _VIDEO_REMEDY, (".ivf",), r"DKIF\0\0"),
    _Unread(
        "a bare video stream without container",
        _VIDEO_REMEDY,
        (".h264", ".264", ".avc", ".h265", ".265", ".hevc", ".m2v", ".m1v", ".obu", ".vvc"),
    ),
    _Unread("a Blackmagic raw film", _VIDEO_REMEDY, (".braw",)),
)
EXTENSIONS = frozenset(extension for kind in _KINDS for extension in kind.extensions)


def is_unread(head: bytes) -> bool:
    """Whether the first `HEAD_BYTES` bytes of a file are those of a picture or film of a kind that is not read."""
    return _kind_of(head) is not None


def refusal_sentence(head: bytes, extension: str) -> str | None:
    """What to say of a file that is not read: its kind and the remedy; None if the kind is not known.

    `head` are the file's first `HEAD_BYTES` bytes, `extension` is that of its name in small letters, with the dot. The
    content goes before the name.
    """
    kind = _kind_of(head)
    if kind is not None:
        return f"This is {kind.name}, of a kind that is not read; {kind.remedy}."
    for kind in _KINDS:
        if extension in kind.extensions:
            return f"By its name this is {kind.name}, of a kind that is not read; {kind.remedy}."
    return None


def is_raw_name(path: str) -> bool:
    """Whether a file's name is that of a camera raw file."""
    return any(kind.remedy == _RAW_REMEDY and path.lower().endswith(kind.extensions) for kind in _KINDS)


def _kind_of(head: bytes) -> _Unread | None:
    return next((kind for pattern, kind in _beginnings() if pattern.match(head)), None)


@cache  # at the first file that needs it: most runs have none
def _beginnings() -> list[tuple[re.Pattern[bytes], _Unread]]:
    return [(re.compile(kind.beginning.encode("latin-1"), re.DOTALL), kind) for kind in _KINDS if kind.beginning]
