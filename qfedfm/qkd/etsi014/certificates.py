"""A certificate authority for tests and demonstrations: it signs KME servers and SAEs, as `NAME.pem` and `NAME.key`.

X.509 version 3 with P-256 keys (RFC 5280). A KME's certificate is good for a server alone and an SAE's for a client
alone; the common name is the KME's or SAE's id. The authority's key lies beside the rest, readable by its owner:
enough for a laboratory, not for anything that must stay safe.
"""

import datetime
import ipaddress
import os
import stat
from collections.abc import Sequence
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from ...errors import ConfigurationError
from .kme import check_name

AUTHORITY = "authority"
DAYS = 365


def certificate_files(directory: Path, name: str) -> tuple[Path, Path]:
    """Return where the certificate and the private key of `name` are."""
    return directory / f"{name}.pem", directory / f"{name}.key"


def authority_file(directory: Path) -> Path:
    """Return where the authority's certificate is."""
    return directory / f"{AUTHORITY}.pem"


def make_certificates(
    directory: Path, kmes: Sequence[str], saes: Sequence[str], hosts: Sequence[str] = ("localhost", "127.0.0.1")
) -> tuple[Path, ...]:
    """Write certificates for KMEs that answer at `hosts` and for SAEs, and return their files.

    An authority that is in `directory` already signs them, else a new one. Nothing is overwritten: a name that has a
    certificate raises `ConfigurationError` before anything is written.
    """
    names = (*kmes, *saes)
    for name in names:
        check_name(name)
    taken = [name for name in names if any(path.exists() for path in certificate_files(directory, name))]
    if taken or AUTHORITY in names or len(set(names)) != len(names):
        raise ConfigurationError(
            f"expected different names without a certificate in {directory}, other than '{AUTHORITY}'; got "
            f"{', '.join(names)}" + (f", where {', '.join(taken)} have one" if taken else "")
        )
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    issuer, signer = _authority(directory)
    server = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH])
    client = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH])
    alternatives = x509.SubjectAlternativeName([_host(host) for host in hosts])
    for name in kmes:
        _issue(directory, name, issuer, signer, (server, alternatives))
    for name in saes:
        _issue(directory, name, issuer, signer, (client,))
    return tuple(certificate_files(directory, name)[0] for name in names)


def check_private(path: Path) -> None:
    """Raise `ConfigurationError` if a private key is missing or others than its owner may read it."""
    try:
        mode = stat.S_IMODE(path.stat().st_mode)
    except OSError as error:
        raise ConfigurationError(f"the private key '{path}' cannot be read: {error.strerror}") from None
    if os.name == "posix" and mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise ConfigurationError(
            f"the private key '{path}' should be open to its owner alone, got mode {mode:04o}: run  chmod 600 on it"
        )


def _authority(directory: Path) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    certificate, key = certificate_files(directory, AUTHORITY)
    if not certificate.exists():
        signer = ec.generate_private_key(ec.SECP256R1())
        constraints = x509.BasicConstraints(ca=True, path_length=0)
        made = _sign(f"{AUTHORITY} of simulated KMEs", signer.public_key(), None, signer, constraints, ())
        _write(certificate, key, made, signer)
    try:
        issuer = x509.load_pem_x509_certificate(certificate.read_bytes())
        loaded = serialization.load_pem_private_key(key.read_bytes(), password=None)
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"the authority in {directory} cannot be used: {error}") from None
    if not isinstance(loaded, ec.EllipticCurvePrivateKey) or loaded.public_key() != issuer.public_key():
        raise ConfigurationError(f"'{key}' is not the key of '{certificate}': use another directory")
    return issuer, loaded


def _issue(
    directory: Path,
    name: str,
    issuer: x509.Certificate,
    signer: ec.EllipticCurvePrivateKey,
    extensions: Sequence[x509.ExtensionType],
) -> None:
    own = ec.generate_private_key(ec.SECP256R1())
    constraints = x509.BasicConstraints(ca=False, path_length=None)
    certificate = _sign(name, own.public_key(), issuer, signer, constraints, extensions)
    _write(*certificate_files(directory, name), certificate, own)


def _sign(
    name: str,
    public: ec.EllipticCurvePublicKey,
    issuer: x509.Certificate | None,
    signer: ec.EllipticCurvePrivateKey,
    constraints: x509.BasicConstraints,
    extensions: Sequence[x509.ExtensionType],
) -> x509.Certificate:
    """Return a certificate for `public`, by `issuer` or, without one, by itself."""
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.UTC)
    end = now + datetime.timedelta(days=DAYS)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer.subject if issuer else subject)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(minutes=5))
        .not_valid_after(min(end, issuer.not_valid_after_utc) if issuer else end)
        .add_extension(constraints, critical=True)
        .add_extension(_usage(authority=constraints.ca), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False)
    )
    for extension in extensions:
        builder = builder.add_extension(extension, critical=False)
    return builder.sign(signer, SHA256())


def _usage(authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not authority,
        key_cert_sign=authority,
        crl_sign=authority,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _host(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _write(certificate: Path, key: Path, made: x509.Certificate, own: ec.EllipticCurvePrivateKey) -> None:
    private = own.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    with open(os.open(key, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "wb") as file:
        file.write(private)
    certificate.write_bytes(made.public_bytes(serialization.Encoding.PEM))
