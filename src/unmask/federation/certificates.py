"""Who is who on the network: the server's certificate, made on the spot, and the clients' keys."""

import ipaddress
import os
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from unmask.errors import DataError

CA, CERTIFICATE, KEY = "ca.pem", "server.pem", "server.key"
_DAYS = 730
_CURVE = ec.SECP384R1()  # the one that Flower's nodes sign with


def server_certificate(folder: Path, hosts: Sequence[str]) -> None:
    """Make an authority and a certificate signed by it, unless the folder has them: `ca.pem` is what clients need.

    The authority's key is thrown away, so that it signs no other certificate; the server's is readable by its owner
    alone.

    Args:
        folder: made if absent.
        hosts: names and addresses by which clients reach the server.

    Raises:
        DataError: the folder has a certificate of other hosts, or one that has expired.
    """
    if (folder / CERTIFICATE).is_file():
        _check_certificate(folder, hosts)
        return
    folder.mkdir(parents=True, exist_ok=True)
    now = datetime.now(UTC)
    authority, key = ec.generate_private_key(_CURVE), ec.generate_private_key(_CURVE)
    issuer = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Unmask federation")])

    def certificate(subject: x509.Name, public: ec.EllipticCurvePublicKey, ca: bool) -> x509.CertificateBuilder:
        usage = x509.KeyUsage(
            digital_signature=not ca,
            key_cert_sign=ca,
            crl_sign=ca,
            content_commitment=False,
            key_encipherment=False,
            data_encipherment=False,
            key_agreement=False,
            encipher_only=False,
            decipher_only=False,
        )
        signer = x509.AuthorityKeyIdentifier.from_issuer_public_key(authority.public_key())
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(issuer)
            .public_key(public)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(days=1))  # clocks differ
            .not_valid_after(now + timedelta(days=_DAYS))
            .add_extension(x509.BasicConstraints(ca=ca, path_length=0 if ca else None), critical=True)
            .add_extension(usage, critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
            .add_extension(signer, critical=False)
        )

    names = x509.SubjectAlternativeName([_general_name(host) for host in hosts])
    server = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, hosts[0][:64])])
    signed = certificate(server, key.public_key(), False).add_extension(names, critical=False)
    signed = signed.add_extension(x509.ExtendedKeyUsage([x509.ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
    trusted = certificate(issuer, authority.public_key(), True).sign(authority, hashes.SHA384())
    _write_private(folder / KEY, key)
    (folder / CA).write_bytes(trusted.public_bytes(serialization.Encoding.PEM))
    (folder / CERTIFICATE).write_bytes(signed.sign(authority, hashes.SHA384()).public_bytes(serialization.Encoding.PEM))


def _check_certificate(folder: Path, hosts: Sequence[str]) -> None:
    certificate = x509.load_pem_x509_certificate((folder / CERTIFICATE).read_bytes())
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    remedy = f"remove {folder}, and give the clients the new {CA}"
    if certificate.not_valid_after_utc < datetime.now(UTC):
        raise DataError(f"{folder / CERTIFICATE} has expired; {remedy}")
    absent = [host for host in hosts if _general_name(host) not in names]
    if absent:
        raise DataError(f"{folder / CERTIFICATE} is not for {absent[0]}; {remedy}")


def _general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        pass
    try:
        return x509.DNSName(host)
    except ValueError as error:
        raise DataError(f"--host {host}: neither a host's name in ASCII nor an address") from error


def client_key(folder: Path) -> ec.EllipticCurvePrivateKey:
    """The key by which a client is known again: that of its folder, made if there is none, with `client.pub` beside it.

    Raises:
        DataError: the file is no such key.
    """
    path = folder / "client.key"
    if not path.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        key = ec.generate_private_key(_CURVE)
        (folder / "client.pub").write_bytes(public_bytes(key.public_key()))
        _write_private(path, key)
    try:
        loaded = serialization.load_pem_private_key(path.read_bytes(), None)
    except ValueError as error:
        raise DataError(f"{path}: not a private key; restore it, or remove it to join as a new client") from error
    if not isinstance(loaded, ec.EllipticCurvePrivateKey):
        raise DataError(f"{path}: not a key on an elliptic curve; remove it to join as a new client")
    return loaded


def admitted_keys(folder: Path) -> dict[bytes, str]:
    """The public keys of the clients that may join, with their names: those of the files `NAME.pub` in a folder.

    Raises:
        DataError: there is none, or a file is no public key.
    """
    keys = {}
    for path in sorted(folder.glob("*.pub")):
        try:
            public = serialization.load_pem_public_key(path.read_bytes())
        except ValueError as error:
            raise DataError(f"{path}: not a public key as `unmask federate client` writes it (client.pub)") from error
        if not isinstance(public, ec.EllipticCurvePublicKey):
            raise DataError(f"{path}: not a public key as `unmask federate client` writes it (client.pub)")
        keys[public_bytes(public)] = path.stem
    if not keys:
        raise DataError(f"{folder}: no key of a client there; put every client's client.pub there, as NAME.pub")
    return keys


def public_bytes(key: ec.EllipticCurvePublicKey) -> bytes:
    """A public key as it travels and as it lies in files."""
    return key.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)


def _write_private(path: Path, key: ec.EllipticCurvePrivateKey) -> None:
    """Write a key that nobody else can read, not even while it is being written."""
    text = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as stream:
        stream.write(text)
