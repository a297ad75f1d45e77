"""Certificates made for one test run, by the `openssl` program."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

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

    def issue(self, name: str, alternatives: str = "IP:127.0.0.1,DNS:localhost") -> Identity:
        """A certificate for the subject alternative names given."""
        identity = Identity(self.folder / f"{name}.pem", self.folder / f"{name}.key")
        _openssl(
            *("req", "-x509", *_CURVE, "-days", "1", "-subj", f"/CN={name}"),
            *("-CA", str(self.certificate), "-CAkey", str(self.key)),
            *("-addext", f"subjectAltName={alternatives}"),
            *("-addext", "basicConstraints=critical,CA:FALSE"),
            *("-keyout", str(identity.key), "-out", str(identity.certificate)),
        )
        return identity


def _openssl(*arguments: str) -> None:
    subprocess.run([OPENSSL or "openssl", *arguments], check=True, capture_output=True, timeout=60)
