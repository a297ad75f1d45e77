"""The certificate that callers see: renewed with its files, and its end announced in time."""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Final, Generic, Protocol, TypeVar

from cryptography import x509
from prometheus_client import CollectorRegistry, Gauge

from specfuse.config.types import ServerTls
from specfuse.errors import Misconfigured
from specfuse.http.tls import RenewableContext
from specfuse.rpc.tls import RenewableTls, ServerPem, TlsFiles
from specfuse.serving.files import FollowedFiles

WARNING_TIME: Final = timedelta(days=14)
"""The log warns of a certificate that ends sooner."""

_DAY_SECONDS: Final = 24 * 60 * 60.0


class Renewable(Protocol):
    """A server's TLS that can be replaced while it serves."""

    def replace(self, pem: ServerPem, /) -> None:
        """Has new connections see this."""


Tls = TypeVar("Tls", bound=Renewable)

_logger = logging.getLogger(__name__)


def _now() -> datetime:
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True)
class Identity:
    """What a server's TLS files held, and from when to when the certificate in them is valid.

    That is the chain's first: from it, callers may find another way to whom they trust.
    """

    pem: ServerPem
    since: datetime
    until: datetime

    @classmethod
    def read(cls, files: TlsFiles) -> Identity:
        """What the files hold.

        Raises:
            Misconfigured: a file is missing, unreadable or not what it should be.
        """
        pem = files.read()
        try:
            certificate = x509.load_pem_x509_certificate(pem.certificate)
            since, until = certificate.not_valid_before_utc, certificate.not_valid_after_utc
        except (ValueError, x509.InvalidVersion) as error:
            problem = f"tls.certificate {files.certificate}: not an X.509 certificate ({error})"
            raise Misconfigured(problem) from error
        return cls(pem, since, until)

    def problem(self, now: datetime) -> str:
        """Why callers refuse the certificate now; empty if they need not."""
        if now > self.until:
            return f"expired on {_shown(self.until)}; renew it"
        if now < self.since:
            return f"not valid before {_shown(self.since)}, and it is {_shown(now)}; set the clock"
        return ""


class ServedCertificate(Generic[Tls]):
    """The TLS of a server, with the certificate it shows and when that ends."""

    def __init__(
        self,
        path: Path,
        identity: Identity,
        make: Callable[[ServerPem], Tls],
        expiry: Gauge,
        now: Callable[[], datetime] = _now,
    ) -> None:
        """Shows `identity`, read from `path`, by the TLS that `make` makes; `expiry` tells its end.

        Raises:
            Misconfigured: its certificate is not valid now.
        """
        self._name = f"tls.certificate {path}"
        self._identity = identity
        self._now = now
        if problem := identity.problem(now()):
            raise Misconfigured(f"{self._name}: {problem}")
        self.tls = make(identity.pem)
        self._expiry = expiry
        self._expiry.set(identity.until.timestamp())

    def renew(self, identity: Identity) -> None:
        """Has new connections see this one, unless it is worse than what they see now."""
        now = self._now()
        if now > identity.until and not self._identity.problem(now):
            problem = identity.problem(now)
            _logger.error("%s: %s. Callers see the one before", self._name, problem)
            return
        self._identity = identity
        self.tls.replace(identity.pem)
        self._expiry.set(identity.until.timestamp())
        _logger.info(
            "%s: read again, valid until %s; new connections see it",
            self._name,
            _shown(identity.until),
        )
        self.remind()

    def remind(self) -> None:
        """Says in the log what has to be done about the certificate, if anything."""
        now = self._now()
        if problem := self._identity.problem(now):
            _logger.error("%s: %s. Callers cannot connect", self._name, problem)
        elif (left := self._identity.until - now) < WARNING_TIME:
            ends = f"expires on {_shown(self._identity.until)}, in {left.days} days"
            _logger.warning("%s: %s; renew it", self._name, ends)


class Certificates:
    """The certificates of a service's doors, renewed when their files change.

    Until `rest` is closed, the log reminds of the end of each once a day.
    """

    def __init__(
        self, files: FollowedFiles, registry: CollectorRegistry, rest: AsyncExitStack
    ) -> None:
        self._files = files
        self._rest = rest
        self._expiry = Gauge(
            "specfuse_tls_certificate_expiry_timestamp_seconds",
            "When the certificate that callers see expires, in seconds since 1970, by door.",
            ("door",),
            registry=registry,
        )

    def grpc(self, settings: ServerTls | None) -> RenewableTls | None:
        """The TLS of a gRPC door as its settings have it.

        Raises:
            Misconfigured: a file is not what it should be, or the certificate is not valid now.
        """
        return self._opened(settings, RenewableTls, "grpc")

    def http(
        self, settings: ServerTls | None, client: ssl.VerifyMode = ssl.CERT_REQUIRED
    ) -> RenewableContext | None:
        """The TLS of an HTTP door as its settings have it.

        With `client_ca`, `client` says whether callers must show a certificate, or may. One of
        another authority is refused in any case.

        Raises:
            Misconfigured: as `grpc`.
        """
        return self._opened(settings, partial(RenewableContext, client=client), "http")

    def _opened(
        self, settings: ServerTls | None, make: Callable[[ServerPem], Tls], door: str
    ) -> Tls | None:
        if settings is None:
            return None
        source = TlsFiles(settings.certificate, settings.key, settings.client_ca)

        def renew(identity: Identity) -> None:
            served.renew(identity)

        identity = self._files.follow(source.paths, partial(Identity.read, source), renew)
        served = ServedCertificate(source.certificate, identity, make, self._expiry.labels(door))
        reminding = asyncio.create_task(_remind_daily(served))
        self._rest.callback(reminding.cancel)
        return served.tls


async def _remind_daily(served: ServedCertificate[Tls]) -> None:
    while True:
        served.remind()
        await asyncio.sleep(_DAY_SECONDS)


def _shown(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M} UTC"
