"""Certificates made for one test run, by the `openssl` program, and how they are rotated."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization

OPENSSL = shutil.which("openssl")
_CURVE = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-noenc")


@dataclass(frozen=True, slots=True)
class Identity:
    """A certificate and its private key, PEM."""

    certificate: Path
    key: Path


@dataclass(frozen=True, slots=True)
class Authority:
    """A certificate authority that lives in a folder."""

    folder: Path
    name: str

    @classmethod
    def create(cls, folder: Path, name: str = "ca") -> Authority:
        """A new authority."""
        authority = cls(folder, name)
        _openssl(
            *("req", "-x509", *_CURVE, "-days", "1", "-subj", f"/CN={name}"),
            *("-keyout", str(authority.key), "-out", str(authority.certificate)),
        )
        return authority

    @property
    def certificate(self) -> Path:
        """What others trust."""
        return self.folder / f"{self.name}.pem"

    @property
    def key(self) -> Path:
        """What it signs with."""
        return self.folder / f"{self.name}.key"

    def issue(
        self,
        name: str,
        alternatives: str = "IP:127.0.0.1,DNS:localhost",
        organization: str = "",
    ) -> Identity:
        """A certificate for the subject alternative names given."""
        identity = Identity(self.folder / f"{name}.pem", self.folder / f"{name}.key")
        subject = f"/O={organization}" if organization else ""
        _openssl(
            *("req", "-x509", *_CURVE, "-days", "1", "-subj", f"{subject}/CN={name}"),
            *("-CA", str(self.certificate), "-CAkey", str(self.key)),
            *("-addext", f"subjectAltName={alternatives}"),
            *("-addext", "basicConstraints=critical,CA:FALSE"),
            *("-keyout", str(identity.key), "-out", str(identity.certificate)),
        )
        return identity

    def renew(self, identity: Identity, since: datetime, until: datetime) -> None:
        """Has the certificate be valid from when to when, and otherwise as it was."""
        old = x509.load_pem_x509_certificate(identity.certificate.read_bytes())
        new = x509.CertificateBuilder(
            old.issuer, old.subject, old.public_key(), old.serial_number, since, until
        )
        for extension in old.extensions:
            new = new.add_extension(extension.value, extension.critical)
        key: Any = serialization.load_pem_private_key(self.key.read_bytes(), None)
        signed = new.sign(key, hashes.SHA256())
        identity.certificate.write_bytes(signed.public_bytes(serialization.Encoding.PEM))


class Mounted:
    """An identity and who vouches for it in a folder, swapped all at once, as Kubernetes does."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._data = folder / "..data"
        self._swaps = 0
        folder.mkdir()
        for name in ("tls.crt", "tls.key", "ca.crt"):
            (folder / name).symlink_to(Path("..data") / name)

    @property
    def identity(self) -> Identity:
        """Where the identity is, whichever it is."""
        return Identity(self.folder / "tls.crt", self.folder / "tls.key")

    @property
    def ca(self) -> Path:
        """Where the authority's certificate is."""
        return self.folder / "ca.crt"

    def swap(self, identity: Identity, *authorities: Authority) -> None:
        """Puts these into the folder."""
        self._swaps += 1
        data = self.folder / f"..{self._swaps}"
        data.mkdir()
        shutil.copy(identity.certificate, data / "tls.crt")
        shutil.copy(identity.key, data / "tls.key")
        bundle = "".join(one.certificate.read_text() for one in authorities)
        (data / "ca.crt").write_text(bundle)
        link = self.folder / "..new"
        link.symlink_to(data.name)
        link.replace(self._data)


def _openssl(*arguments: str) -> None:
    subprocess.run([OPENSSL or "openssl", *arguments], check=True, capture_output=True, timeout=60)
