"""Protects the twin's object store: one certificate that its parts share, and their security.toml.

SeaweedFS's master, volume server and filer trust every client of their ports, HTTP as well as gRPC, and answer any
Host with CORS `*`. With mutual TLS a connection without the certificate ends before the first byte of a request.
Source: `weed scaffold -config=security` of SeaweedFS 4.48.
"""

from __future__ import annotations

import datetime as dt
import ipaddress
import json
import secrets
import ssl
from typing import TYPE_CHECKING, Final

from backout.errors import UsageError
from backout.extras import describe_install
from backout.private import write_over

if TYPE_CHECKING:
    from pathlib import Path

NO_ORIGIN: Final = "http://nobody.invalid"
"""The one origin that a page may have to use the S3 API from a browser: none has it."""
_PARTS: Final = ("master", "volume", "filer", "s3", "client")
_BY_HTTP: Final = ("master", "volume", "filer")
_DAYS: Final = 3650
_USES: Final = (
    *("digital_signature", "content_commitment", "key_encipherment", "data_encipherment", "key_agreement"),
    *("key_cert_sign", "crl_sign", "encipher_only", "decipher_only"),
)


def write(directory: Path) -> ssl.SSLContext:
    """Write certificate, key and security.toml for a start, and return what a client of the parts needs.

    Raises:
        UsageError: the package that makes certificates is not installed.
    """
    authority, certificate, key = _make_authority()
    paths = {name: directory / f"{name}.pem" for name in ("ca", "cert", "key")}
    for name, content in (("ca", authority), ("cert", certificate), ("key", key)):
        write_over(paths[name], content)
    write_over(directory / "security.toml", _format_settings(paths).encode())
    context = ssl.create_default_context(cafile=str(paths["ca"]))
    context.load_cert_chain(paths["cert"], paths["key"])
    return context


def _format_settings(paths: dict[str, Path]) -> str:
    quoted = {name: json.dumps(str(path)) for name, path in paths.items()}
    pair, trusted = f"cert = {quoted['cert']}\nkey = {quoted['key']}\n", f"ca = {quoted['ca']}\n"
    tables = [
        f'[cors.allowed_origins]\nvalues = "{NO_ORIGIN}"\n',
        "[access]\nui = false\n",
        "[filer.expose_directory_metadata]\nenabled = false\n",
        *(f'[jwt.{name}]\nkey = "{secrets.token_hex(16)}"\n' for name in ("signing", "signing.read")),
        *(f'[jwt.{name}]\nkey = "{secrets.token_hex(16)}"\n' for name in ("filer_signing", "filer_signing.read")),
        f"[grpc]\n{trusted}",
        *(f"[grpc.{part}]\n{pair}" for part in _PARTS),
        f"[https.client]\nenabled = true\n{trusted}{pair}",
        *(f"[https.{part}]\n{trusted}{pair}" for part in _BY_HTTP),
    ]
    return "\n".join(tables)


def _make_authority() -> tuple[bytes, bytes, bytes]:
    """Return an authority of our own, the one certificate that it has signed, and its key, in PEM."""
    try:
        from cryptography import x509
        from cryptography.hazmat.primitives import hashes, serialization
        from cryptography.hazmat.primitives.asymmetric import ec
        from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
    except ImportError:
        hint = describe_install("twin")
        raise UsageError("the twin's store needs the package cryptography", hint=hint) from None
    now = dt.datetime.now(dt.UTC)

    def begun(name: str, issuer: str, key: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
        def make_name(text: str) -> x509.Name:
            return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])

        builder = x509.CertificateBuilder().subject_name(make_name(name)).issuer_name(make_name(issuer)).public_key(key)
        builder = builder.serial_number(x509.random_serial_number())
        return builder.not_valid_before(now - dt.timedelta(days=1)).not_valid_after(now + dt.timedelta(days=_DAYS))

    ca_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    constraints = x509.BasicConstraints(ca=True, path_length=0)
    signs_only = dict.fromkeys(_USES, False) | {"key_cert_sign": True, "crl_sign": True}
    authority = begun("twin authority", "twin authority", ca_key.public_key()).add_extension(constraints, critical=True)
    # Python checks a chain strictly from 3.13 on: an authority says what it signs, and each key names its signer.
    authority = authority.add_extension(x509.KeyUsage(**signs_only), critical=True)
    name_of_ca = x509.SubjectKeyIdentifier.from_public_key(ca_key.public_key())
    signed = authority.add_extension(name_of_ca, critical=False).sign(ca_key, hashes.SHA256())
    here = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    uses = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH])
    certificate = begun("twin", "twin authority", key.public_key()).add_extension(here, critical=False)
    certificate = certificate.add_extension(
        x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(name_of_ca), critical=False
    )
    pem = serialization.Encoding.PEM
    private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    whole = certificate.add_extension(uses, critical=False).sign(ca_key, hashes.SHA256())
    return signed.public_bytes(pem), whole.public_bytes(pem), private
