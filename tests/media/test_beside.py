"""What files say of themselves beside their pixels: what is read, what it is taken to mean, and what damage costs."""

import datetime
import io
import json
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import odd_pictures
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from unmask.errors import DataError
from unmask.installation import install_line
from unmask.media.beside import Beside, beside_picture, beside_video
from unmask.media.beside.compression import luminance_table, quality_of
from unmask.media.beside.credentials import read_anchors
from unmask.media.intake import MediaFile
from unmask.media.synthetic_mark import mark


@pytest.fixture(scope="module")
def pixels(portrait: Path) -> np.ndarray:
    with Image.open(portrait) as picture:
        return np.asarray(picture.convert("RGB"))


def media(data: bytes) -> MediaFile:
    return MediaFile("a.jpg", "0" * 64, len(data), "image", data, None)


def look(data: bytes, pixels: np.ndarray, anchors: str | None = None) -> dict[str, Beside]:
    return {one.check: one for one in beside_picture(media(data), pixels, anchors)}


def saved(pixels: np.ndarray, kind: str = "JPEG", **how: Any) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, kind, **how)
    return stream.getvalue()


def camera_exif(**tags: str) -> Image.Exif:
    exif = Image.Exif()
    exif[0x010F], exif[0x0110] = "Maker", "Model 1"
    for name, value in tags.items():
        exif[{"software": 0x0131}[name]] = value
    return exif


def with_thumbnail(data: bytes, small: np.ndarray, orientation: int = 1) -> bytes:
    """A JPEG file with an EXIF block, put together by hand, that has a thumbnail."""
    jpeg = cv2.imencode(".jpg", small[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, 50])[1].tobytes()

    def entry(tag: int, kind: int, value: int) -> bytes:
        size = value.to_bytes(2, "big") + b"\0\0" if kind == 3 else value.to_bytes(4, "big")
        return tag.to_bytes(2, "big") + kind.to_bytes(2, "big") + b"\0\0\0\1" + size

    first = b"\0\1" + entry(0x0112, 3, orientation)
    second_at = 8 + len(first) + 4
    second = b"\0\2" + entry(0x0201, 4, second_at + 2 + 24 + 4) + entry(0x0202, 4, len(jpeg)) + b"\0\0\0\0"
    tiff = b"MM\0*\0\0\0\x08" + first + second_at.to_bytes(4, "big") + second + jpeg
    segment = b"Exif\0\0" + tiff
    return data[:2] + b"\xff\xe1" + (len(segment) + 2).to_bytes(2, "big") + segment + data[2:]


def shrunk(pixels: np.ndarray, width: int = 160) -> np.ndarray:
    height = round(width * pixels.shape[0] / pixels.shape[1])
    return cv2.resize(pixels, (width, height), interpolation=cv2.INTER_AREA)


def test_a_file_without_metadata_says_that_this_says_nothing(pixels: np.ndarray) -> None:
    findings = look(saved(pixels), pixels)
    assert list(findings) == ["exif", "xmp", "generator", "jpeg", "double_compression", "content_credentials"]
    assert [one.outcome for one in findings.values()] == ["absent", "absent", "absent", "present", "absent", "absent"]
    assert all("says nothing" in findings[one].meaning for one in ("exif", "xmp", "generator", "content_credentials"))


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "AVIF", "TIFF"])
def test_camera_and_software_are_read(kind: str, pixels: np.ndarray) -> None:
    usual = look(saved(pixels, kind, exif=camera_exif(software="12.1")), pixels)["exif"]
    assert usual.outcome == "present" and "Maker Model 1" in usual.statement and usual.details["software"] == "12.1"
    edited = look(saved(pixels, kind, exif=camera_exif(software="Adobe Photoshop 25.0")), pixels)["exif"]
    assert edited.outcome == "notable" and "Photoshop" in edited.statement and "original" in edited.meaning


def test_metadata_of_heic_are_read(pixels: np.ndarray) -> None:
    block = b"\0\0\0\6Exif\0\0" + camera_exif(software="Adobe Photoshop 25.0").tobytes().removeprefix(b"Exif\0\0")
    findings = look(odd_pictures.heic(shrunk(pixels, 96), metadata=block), pixels)
    assert findings["exif"].outcome == "notable" and "Maker Model 1" in findings["exif"].statement
    assert findings["xmp"].outcome == "absent" and "thumbnail" not in findings


def jxl_with(*boxes: tuple[bytes, bytes]) -> bytes:
    """A JPEG XL file of metadata boxes, as far as they are read without a decoder."""
    parts = [(b"JXL ", b"\r\n\x87\n"), (b"ftyp", b"jxl \0\0\0\0jxl "), *boxes, (b"jxlc", b"\xff\n")]
    return b"".join(odd_pictures.box(*part) for part in parts)


@pytest.mark.parametrize("before", [b"\0\0\0\0", b"", b"\0\0\0\6Exif\0\0"])
def test_metadata_of_jpeg_xl_are_read(before: bytes, pixels: np.ndarray) -> None:
    block = before + camera_exif().tobytes().removeprefix(b"Exif\0\0")
    findings = look(jxl_with((b"Exif", block), (b"xml ", b'<a xmp:CreatorTool="GIMP 3"/>')), pixels)
    assert "Maker Model 1" in findings["exif"].statement
    assert findings["xmp"].outcome == "notable" and findings["xmp"].details["programs"] == "GIMP 3"


def test_packed_metadata_of_jpeg_xl_are_said_not_to_be_read(pixels: np.ndarray) -> None:
    findings = look(jxl_with((b"brob", b"Exif" + bytes(40)), (b"brob", b"xml " + bytes(40))), pixels)
    for check in ("exif", "xmp", "generator"):
        assert findings[check].outcome == "not_checked" and "Brotli" in findings[check].statement


def test_a_position_is_not_repeated(pixels: np.ndarray) -> None:
    exif = camera_exif()
    exif[0x8825] = {1: "N", 2: (52.0, 31.0, 12.0)}
    finding = look(saved(pixels, exif=exif), pixels)["exif"]
    assert finding.details["position"] == "given" and "52" not in json.dumps(finding.details)


def test_programs_and_marks_in_xmp_are_read(pixels: np.ndarray) -> None:
    marked = look(mark(saved(pixels), "trainedAlgorithmicMedia"), pixels)["xmp"]
    assert marked.outcome == "notable" and marked.details["digital source type"] == "trainedAlgorithmicMedia"
    packet = b'<rdf:Description xmp:CreatorTool="GIMP 2.10"/><stEvt:softwareAgent>Tool 2</stEvt:softwareAgent>'
    edited = look(saved(pixels, xmp=packet), pixels)["xmp"]
    assert edited.outcome == "notable" and edited.details["programs"] == "GIMP 2.10, Tool 2"
    camera = look(saved(pixels, xmp=packet.replace(b"GIMP 2.10", b"17.4")), pixels)["xmp"]
    assert camera.outcome == "present"


SETTINGS = "a portrait\nNegative prompt: blurry\nSteps: 20, Sampler: Euler a, CFG scale: 7, Seed: 1"


def generated(pixels: np.ndarray) -> dict[str, bytes]:
    plain, packed, utf8 = PngInfo(), PngInfo(), PngInfo()
    plain.add_text("parameters", SETTINGS)
    packed.add_text("prompt", json.dumps({"3": {"class_type": "KSampler"}}), zip=True)
    utf8.add_itxt("workflow", "{}", zip=True)
    exif, named = Image.Exif(), Image.Exif()
    exif.get_ifd(0x8769)[0x9286] = b"UNICODE\0" + SETTINGS.encode("utf-16-be")
    named[0x0131] = "Midjourney"
    return {
        "plain text": saved(pixels, "PNG", pnginfo=plain),
        "packed text": saved(pixels, "PNG", pnginfo=packed),
        "international text": saved(pixels, "PNG", pnginfo=utf8),
        "comment of EXIF": saved(pixels, exif=exif),
        "comment of JPEG": saved(pixels, comment=SETTINGS),
        "software": saved(pixels, "WEBP", exif=named),
    }


def test_settings_of_image_generators_are_noticed_wherever_they_stand(pixels: np.ndarray) -> None:
    for where, data in generated(pixels).items():
        finding = look(data, pixels)["generator"]
        assert finding.outcome == "notable" and len(finding.details) == 1, where


def twice(pixels: np.ndarray, first: int, last: int) -> dict[str, Beside]:
    with Image.open(io.BytesIO(saved(pixels, quality=first))) as picture:
        return look(saved(np.asarray(picture), quality=last), pixels)


@pytest.mark.parametrize(("first", "last"), [(60, 90), (75, 95), (85, 90)])
def test_an_earlier_compression_at_lower_quality_is_noticed(first: int, last: int, pixels: np.ndarray) -> None:
    # Made smaller, the picture has no trace of the compression that it came with.
    finding = twice(shrunk(pixels, 200), first, last)["double_compression"]
    assert finding.outcome == "present" and abs(int(finding.details["first quality"]) - first) <= 2
    assert "no sign of forgery" in finding.meaning


@pytest.mark.parametrize("quality", [50, 75, 90, 95, 100])
@pytest.mark.parametrize("subsampling", [0, 2])
def test_a_single_compression_is_not_called_two(quality: int, subsampling: int, pixels: np.ndarray) -> None:
    data = saved(shrunk(pixels, 200), quality=quality, subsampling=subsampling)
    assert look(data, pixels)["double_compression"].outcome == "absent"


def test_pictures_too_small_or_flat_to_judge_their_compression_say_so(pixels: np.ndarray) -> None:
    for data in (saved(shrunk(pixels, 48)), saved(np.full((400, 400, 3), 128, np.uint8))):
        assert look(data, pixels)["double_compression"].outcome == "not_checked"


@pytest.mark.parametrize("mode", ["L", "CMYK"])
def test_grey_pictures_are_looked_at_for_an_earlier_compression_and_cmyk_is_not(mode: str, pixels: np.ndarray) -> None:
    stream = io.BytesIO()
    Image.fromarray(shrunk(pixels, 200)).convert(mode).save(stream, "JPEG", quality=90)
    outcome = look(stream.getvalue(), pixels)["double_compression"].outcome
    assert outcome == ("absent" if mode == "L" else "not_checked")


@pytest.mark.parametrize("quality", [1, 30, 50, 75, 95, 100])
def test_the_quality_of_ijg_tables_is_found(quality: int, pixels: np.ndarray) -> None:
    data = saved(pixels, quality=quality)
    table = luminance_table(data)
    assert table is not None and quality_of(table) == quality
    assert f"at quality {quality}." in look(data, pixels)["jpeg"].statement
    other = saved(pixels, qtables=[list(range(2, 66)), list(range(3, 67))])
    assert "none of the IJG library's" in look(other, pixels)["jpeg"].statement
    assert "jpeg" not in look(saved(pixels, "PNG"), pixels)


@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
def test_a_thumbnail_is_compared_with_the_picture_as_it_is_shown(orientation: int, pixels: np.ndarray) -> None:
    wide = pixels[40:300]
    back = {1: 0, 3: 2, 6: 1, 8: 3}[orientation]
    data = with_thumbnail(saved(wide), shrunk(np.rot90(wide, back)), orientation)
    own = look(data, wide)["thumbnail"]
    assert own.outcome == "present", own
    for other in (wide[:, ::-1], wide[40:], np.roll(wide, 60, 1)):
        assert look(data, np.ascontiguousarray(other))["thumbnail"].outcome == "notable"


def test_black_bars_of_a_thumbnail_do_not_count(pixels: np.ndarray) -> None:
    wide = pixels[60:316]
    small = shrunk(wide)
    filled = np.zeros((120, 160, 3), np.uint8)
    at = (120 - small.shape[0]) // 2
    filled[at : at + small.shape[0]] = small
    assert look(with_thumbnail(saved(wide), filled), wide)["thumbnail"].outcome == "present"


def test_an_exif_block_without_a_thumbnail_says_so(pixels: np.ndarray) -> None:
    assert look(saved(pixels, exif=camera_exif()), pixels)["thumbnail"].outcome == "absent"
    broken = with_thumbnail(saved(pixels), shrunk(pixels)).replace(b"\xff\xd8\xff\xe0", b"\xff\xd8\0\0")
    assert look(b"\xff\xd8" + broken[2:], pixels)["thumbnail"].outcome == "not_checked"


@given(st.data())
def test_damage_costs_no_more_than_its_check(data: st.DataObject) -> None:
    pixels = np.full((32, 32, 3), 90, np.uint8)
    whole = with_thumbnail(saved(pixels, exif=camera_exif(software="x" * 50), comment="c"), shrunk(pixels, 32))
    info = PngInfo()
    info.add_text("parameters", SETTINGS, zip=True)
    files = (whole, saved(pixels, "PNG", pnginfo=info, exif=camera_exif()), mark(saved(pixels), "compositeSynthetic"))
    damaged = bytearray(data.draw(st.sampled_from(files)))
    for _ in range(data.draw(st.integers(1, 8))):
        damaged[data.draw(st.integers(2, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(2, len(damaged)))
    for one in beside_picture(media(bytes(damaged[:cut])), pixels):
        assert one.statement and one.meaning


def test_a_packed_text_is_not_unpacked_without_end(pixels: np.ndarray) -> None:
    body = b"prompt\0\0" + zlib.compress(bytes(200_000_000), 9)
    chunk = len(body).to_bytes(4, "big") + b"zTXt" + body + zlib.crc32(b"zTXt" + body).to_bytes(4, "big")
    png = saved(pixels, "PNG")
    finding = look(png[:33] + chunk + png[33:], pixels)["generator"]
    assert finding.outcome == "notable" and sum(map(len, finding.details.values())) < 400


def test_a_container_names_its_encoder(make_video: Callable[..., Path], pixels: np.ndarray) -> None:
    path = make_video(lambda _: pixels, seconds=0.5)
    for source in (
        MediaFile("v", "0", 1, "video", None, path),
        MediaFile("v", "0", 1, "video", path.read_bytes(), None),
    ):
        container, credentials = beside_video(source)
        assert container.outcome == "present" and "Lav" in container.statement and "FFmpeg" in container.meaning
        assert credentials.outcome in ("absent", "not_checked")


@pytest.fixture(scope="module")
def signed(pixels: np.ndarray) -> tuple[bytes, str]:
    """A signed JPEG file, and the certificate of the authority behind its signer."""
    c2pa = pytest.importorskip("c2pa", reason="the c2pa extra is not installed")
    x509 = pytest.importorskip("cryptography.x509", reason="cryptography is not installed")
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
    from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

    now = datetime.datetime.now(datetime.UTC)

    def certificate(subject: str, key: Any, issuer: str, by: Any, *, authority: bool) -> Any:
        def name(text: str) -> Any:
            return x509.Name(
                [x509.NameAttribute(NameOID.COMMON_NAME, text), x509.NameAttribute(NameOID.ORGANIZATION_NAME, text)]
            )

        usage = dict.fromkeys(
            (
                "content_commitment",
                "key_encipherment",
                "data_encipherment",
                "key_agreement",
                "encipher_only",
                "decipher_only",
            ),
            False,
        )
        made = (
            x509.CertificateBuilder()
            .subject_name(name(subject))
            .issuer_name(name(issuer))
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(days=1))
            .not_valid_after(now + datetime.timedelta(days=30))
            .add_extension(x509.BasicConstraints(authority, None), True)
            .add_extension(
                x509.KeyUsage(digital_signature=True, key_cert_sign=authority, crl_sign=authority, **usage), True
            )
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), False)
        )
        if not authority:
            made = made.add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.EMAIL_PROTECTION]), True)
            made = made.add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(by.public_key()), False)
        return made.sign(by, hashes.SHA256()).public_bytes(serialization.Encoding.PEM).decode()

    root, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    authority = certificate("Authority", root, "Authority", root, authority=True)
    chain = certificate("A Newsroom", key, "Authority", root, authority=False) + authority

    def sign(data: bytes) -> bytes:
        r, s = decode_dss_signature(key.sign(data, ec.ECDSA(hashes.SHA256())))
        return r.to_bytes(32, "big") + s.to_bytes(32, "big")

    manifest = {
        "claim_generator_info": [{"name": "a camera", "version": "1"}],
        "assertions": [{"label": "c2pa.actions", "data": {"actions": [{"action": "c2pa.opened"}]}}],
    }
    manifest["assertions"][0]["data"]["actions"][0] = {  # type: ignore[index]
        "action": "c2pa.created",
        "digitalSourceType": "http://cv.iptc.org/newscodes/digitalsourcetype/digitalCapture",
    }
    out = io.BytesIO()
    signer = c2pa.Signer.from_callback(sign, c2pa.C2paSigningAlg.ES256, chain, None)
    c2pa.Builder(json.dumps(manifest)).sign(signer, "image/jpeg", io.BytesIO(saved(pixels)), out)
    return out.getvalue(), authority


def test_content_credentials_are_trusted_untrusted_or_contradicted(
    signed: tuple[bytes, str], pixels: np.ndarray
) -> None:
    data, authority = signed

    def read(data: bytes, anchors: str | None = None) -> Beside:
        return look(data, pixels, anchors)["content_credentials"]

    trusted, untrusted = read(data, authority), read(data)
    assert trusted.outcome == untrusted.outcome == "present" and trusted.details["signed by"] == "A Newsroom"
    assert trusted.statement.startswith("Valid") and "no given certificate" in untrusted.statement
    changed = data[:-100] + bytes([data[-100] ^ 1]) + data[-99:]
    contradicted = read(changed, authority)
    assert contradicted.outcome == "notable" and "contradicts" in contradicted.statement
    assert "dataHash" in contradicted.details["problems"]
    assert read(saved(pixels), authority).outcome == "absent"


def test_without_the_extra_it_is_said_whether_there_are_credentials(
    signed: tuple[bytes, str], pixels: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "c2pa", None)
    finding = look(signed[0], pixels)["content_credentials"]
    assert finding.outcome == "not_checked" and install_line("c2pa") in finding.statement
    assert look(saved(pixels), pixels)["content_credentials"].outcome == "absent"


def test_anchors_that_are_none_are_one_line(tmp_path: Path) -> None:
    (tmp_path / "a.pem").write_text("nothing")
    (tmp_path / "b.pem").write_bytes(b"\xff\xfe")
    for name, message in (("a.pem", "no certificate"), ("b.pem", "no text"), ("c.pem", "No such file")):
        with pytest.raises(DataError, match=message):
            read_anchors(tmp_path / name)
