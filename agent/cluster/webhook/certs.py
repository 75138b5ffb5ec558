"""The webhook's own authority and its server certificate, and when each is made anew. Pure, apart from the clock given.

The bundle that API servers trust may hold two authorities: a new one is told to them first and signs only when it is in
their bundle, so that no call fails while it takes over.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

CA_LIFE = timedelta(days=365)
CERT_LIFE = timedelta(days=90)
BACKDATED = timedelta(minutes=10)  # clocks of API servers may be behind
_KEYS = ("ca.crt", "ca.key", "tls.crt", "tls.key")


@dataclass(frozen=True, slots=True)
class Kept:
    """PEM texts as the Secret holds them. `bundle`: authorities, the signing one of the future first."""

    bundle: str
    ca_key: str
    cert: str
    key: str

    @classmethod
    def read(cls, data: dict[str, str]) -> Kept | None:
        """From the Secret's texts; None when one is missing or cannot be read."""
        if not all(data.get(name) for name in _KEYS):
            return None
        kept = cls(*(data[name] for name in _KEYS))
        try:
            authorities(kept.bundle)
            x509.load_pem_x509_certificate(kept.cert.encode())
            load_pem_private_key(kept.ca_key.encode(), None)
            load_pem_private_key(kept.key.encode(), None)
        except (ValueError, TypeError):
            return None
        return kept

    def texts(self) -> dict[str, str]:
        return dict(zip(_KEYS, (self.bundle, self.ca_key, self.cert, self.key), strict=True))


def authorities(bundle: str) -> list[x509.Certificate]:
    """The certificates of a bundle. Raises ValueError when there is none."""
    return x509.load_pem_x509_certificates(bundle.encode())


def expires(cert: str) -> datetime:
    return x509.load_pem_x509_certificate(cert.encode()).not_valid_after_utc


def made(names: Sequence[str], now: datetime) -> Kept:
    """A new authority and a certificate for these DNS names."""
    ca, key = _authority(now)
    return _signed(Kept(_pem(ca), _pem_key(key), "", ""), names, now)


def turned(kept: Kept, names: Sequence[str], now: datetime, *, trusted: bool) -> Kept:
    """What should be kept from now on; the same when nothing is due. `trusted`: API servers know the whole bundle."""
    known = authorities(kept.bundle)
    if _due(known[0], now):
        ca, key = _authority(now)
        alive = [_pem(old) for old in known if old.not_valid_after_utc > now]
        return replace(kept, bundle=_pem(ca) + "".join(alive[:2]), ca_key=_pem_key(key))
    cert = x509.load_pem_x509_certificate(kept.cert.encode())
    ours = _is_by(cert, known[0])
    if trusted and (not ours or _due(cert, now) or _names(cert) != set(names)):
        return _signed(kept, names, now)
    if ours and len(known) > 1 and cert.not_valid_before_utc + 2 * BACKDATED < now:
        return replace(kept, bundle=_pem(known[0]))  # the former authority has signed nothing that is still in use
    return kept


def _due(cert: x509.Certificate, now: datetime) -> bool:
    """Two thirds of its life are over."""
    life = cert.not_valid_after_utc - cert.not_valid_before_utc
    return now >= cert.not_valid_before_utc + life * 2 / 3


def _is_by(cert: x509.Certificate, ca: x509.Certificate) -> bool:
    try:
        cert.verify_directly_issued_by(ca)
    except Exception:  # noqa: BLE001  the library raises by the kind of fault; each means no
        return False
    return True


def _names(cert: x509.Certificate) -> set[str]:
    found = cert.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return set(found.get_values_for_type(x509.DNSName))


def _authority(now: datetime) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"curfew-webhook-ca {now:%Y-%m-%d %H:%M:%S}")])
    usage = x509.KeyUsage(False, False, False, False, False, True, True, False, False)
    cert = (
        _builder(name, name, now, CA_LIFE)
        .public_key(key.public_key())
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, SHA256())
    )
    return cert, key


def _signed(kept: Kept, names: Sequence[str], now: datetime) -> Kept:
    ca = authorities(kept.bundle)[0]
    signer = load_pem_private_key(kept.ca_key.encode(), None)
    assert isinstance(signer, ec.EllipticCurvePrivateKey)
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0][:64])])
    cert = (
        _builder(subject, ca.subject, now, CERT_LIFE)
        .public_key(key.public_key())
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name) for name in names]), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(ca.public_key()), critical=False)  # type: ignore[arg-type]
        .sign(signer, SHA256())
    )
    return replace(kept, cert=_pem(cert), key=_pem_key(key))


def _builder(subject: x509.Name, issuer: x509.Name, now: datetime, life: timedelta) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - BACKDATED)
        .not_valid_after(now + life)
    )


def _pem(cert: x509.Certificate) -> str:
    return cert.public_bytes(Encoding.PEM).decode()


def _pem_key(key: ec.EllipticCurvePrivateKey) -> str:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
