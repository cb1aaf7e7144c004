"""Content Credentials (C2PA): absent, there but not trusted, trusted, or contradicted by the file.

The manifest is checked by the C2PA project's own library (extra `c2pa`), which is kept from asking anybody: manifests
and certificates elsewhere are not fetched. Who is trusted, the user says by a file of certificates.
"""

import io
import json
from functools import lru_cache
from pathlib import Path
from typing import Any, BinaryIO

from unmask.errors import DataError
from unmask.installation import install_line
from unmask.media import jpeg, png
from unmask.media.beside import Beside, shortened
from unmask.media.intake import MediaFile

_ABSENT = Beside(
    "content_credentials",
    "absent",
    "There are no Content Credentials.",
    "Most files have none, and many services strip them: their absence says nothing.",
)


def read_anchors(path: Path) -> str:
    """The text of a file of certificates (PEM).

    Raises:
        DataError: it cannot be read, or holds none.
    """
    try:
        text = path.read_text(encoding="ascii")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is no text"
        raise DataError(f"{path}: the certificates cannot be read ({reason}): give a readable PEM file") from error
    if "-----BEGIN CERTIFICATE-----" not in text:
        raise DataError(f"{path}: holds no certificate: give a PEM file of those whom you trust")
    return text


def credentials_of_picture(data: bytes, anchors: str | None) -> Beside:
    """The Content Credentials of a picture file.

    Args:
        data: the file.
        anchors: certificates (PEM) that are trusted, or None for nobody.
    """
    known = _mentions(data)
    return _ABSENT if known is False else _read(io.BytesIO(data), known, anchors)


def credentials_of_video(media: MediaFile, anchors: str | None) -> Beside:
    """The Content Credentials of a video file; arguments as for `credentials_of_picture`."""
    if media.data is not None:
        return _read(io.BytesIO(media.data), None, anchors)
    assert media.file is not None
    with media.file.open("rb") as stream:
        return _read(stream, None, anchors)


def _mentions(data: bytes) -> bool | None:
    """Whether a JPEG or PNG file has a place for a manifest; None for other kinds, which are not looked through."""
    if data.startswith(b"\xff\xd8"):
        return any(m == 0xEB and b"jumb" in data[start:end] for m, start, end in jpeg.segments(data))
    if data.startswith(b"\x89PNG"):
        return any(chunk.name == b"caBX" for chunk in png.chunks(data))
    return None


def _read(stream: BinaryIO, known: bool | None, anchors: str | None) -> Beside:
    try:
        import c2pa
    except ModuleNotFoundError:
        there = "There are Content Credentials, which" if known else "Whether there are Content Credentials"
        return Beside(
            "content_credentials",
            "not_checked",
            f"{there} {'were' if known else 'was'} not checked: {install_line('c2pa')}",
            "The library that reads them is not installed.",
        )
    try:
        reader = c2pa.Reader(stream, context=_context(anchors))
    except c2pa.C2paError as error:
        if "ManifestNotFound" in str(error):
            return _ABSENT
        if known is None and "NotSupported" in f"{type(error).__name__} {error}":
            return Beside(
                "content_credentials",
                "not_checked",
                "Files of this kind are not looked through for Content Credentials.",
                "Nothing is known of them.",
            )
        return Beside(
            "content_credentials",
            "notable",
            f"There are Content Credentials that cannot be read ({shortened(error)}).",
            "They were damaged, or written by a faulty program.",
        )
    with reader:
        return _judged(json.loads(reader.json()))


@lru_cache(maxsize=4)
def _context(anchors: str | None) -> Any:
    import c2pa

    settings: dict[str, Any] = {
        "verify": {"verify_trust": True, "remote_manifest_fetch": False, "ocsp_fetch": False},
    }
    if anchors is not None:
        settings["trust"] = {"user_anchors": anchors}
    return c2pa.Context(c2pa.Settings.from_json(json.dumps(settings)))


def _judged(said: dict[str, Any]) -> Beside:
    manifest = said.get("manifests", {}).get(said.get("active_manifest"), {})
    signer = manifest.get("signature_info") or {}
    details = {
        name: shortened(value)
        for name, value in (
            ("signed by", signer.get("issuer") or signer.get("common_name")),
            ("signed at", signer.get("time")),
            ("program", ", ".join(one.get("name", "") for one in manifest.get("claim_generator_info") or ())),
            ("actions", ", ".join(_actions(manifest))),
            ("problems", ", ".join(one.get("code", "") for one in said.get("validation_status") or ())),
        )
        if value
    }
    who = details.get("signed by", "somebody unnamed")
    made = " They say that software made or changed the picture." if _synthetic(manifest) else ""
    state = said.get("validation_state")
    if state == "Trusted":
        return Beside(
            "content_credentials",
            "notable" if made else "present",
            f"Valid Content Credentials, signed by {who}, whom the given certificates trust.{made}",
            "The file is as it was signed, and its signer is known. What is stated is the signer's word.",
            details,
        )
    if state == "Valid":
        return Beside(
            "content_credentials",
            "notable" if made else "present",
            f"Content Credentials that fit the file, signed by {who}, whom no given certificate trusts.{made}",
            "The file is as it was signed, but anybody can sign under any name: --c2pa-anchors says who is trusted.",
            details,
        )
    return Beside(
        "content_credentials",
        "notable",
        f"Content Credentials that the file contradicts, signed by {who}.",
        "The file was changed after it was signed, or the credentials were taken from another file.",
        details,
    )


def _actions(manifest: dict[str, Any]) -> list[str]:
    assertions = [one for one in manifest.get("assertions") or () if one.get("label", "").startswith("c2pa.actions")]
    actions = [action for one in assertions for action in one.get("data", {}).get("actions") or ()]
    return [action.get("action", "") for action in actions]


def _synthetic(manifest: dict[str, Any]) -> bool:
    text = json.dumps(manifest.get("assertions") or ())
    return "trainedAlgorithmicMedia" in text or "TrainedAlgorithmicMedia" in text or "compositeSynthetic" in text
