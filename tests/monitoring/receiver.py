"""Small servers: one that is told of alerts, and one that exports what others do."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

_PATIENCE_SECONDS = 60.0


class Receiver:
    """A webhook: keeps what Alertmanager posts."""

    def __init__(self) -> None:
        self.address = ""
        self._told: list[dict[str, Any]] = []
        self._news = threading.Condition()

    def take(self, posted: dict[str, Any]) -> None:
        """Keeps the alerts of a notification."""
        with self._news:
            self._told += posted["alerts"]
            self._news.notify_all()

    def forget(self) -> None:
        """Forgets what it was told so far."""
        with self._news:
            self._told.clear()

    async def told(self, name: str, severity: str, status: str) -> dict[str, Any]:
        """The first such alert that is told of as `firing`, or `resolved`."""
        labels = {"alertname": name, "severity": severity}
        return await asyncio.to_thread(self._wait_for, labels, status)

    def _wait_for(self, labels: dict[str, str], status: str) -> dict[str, Any]:
        def of_it() -> Iterator[dict[str, Any]]:
            for one in self._told:
                if labels.items() <= one["labels"].items() and one["status"] == status:
                    yield one

        with self._news:
            came = self._news.wait_for(lambda: any(of_it()), _PATIENCE_SECONDS)
            assert came, f"nobody told that {labels} is {status}, but of {self._told}"
            return next(of_it())


class Exporter:
    """Exports what kube-state-metrics and NVIDIA's DCGM exporter do, by their own names and labels.

    https://github.com/kubernetes/kube-state-metrics/blob/main/docs/metrics/workload/horizontalpodautoscaler-metrics.md
    https://github.com/NVIDIA/dcgm-exporter#metrics
    """

    def __init__(self, member: str) -> None:
        self.address = ""
        self.desired_replicas = 1
        self._scaler = f'horizontalpodautoscaler="keda-hpa-mesh-specfuse-model-{member}"'
        self._device = f'gpu="0", UUID="GPU-0", pod="mesh-specfuse-model-{member}-0"'

    def text(self) -> str:
        """What is exported now."""
        kube = "kube_horizontalpodautoscaler"
        return (
            f"{kube}_status_desired_replicas{{{self._scaler}}} {self.desired_replicas}\n"
            f"{kube}_spec_max_replicas{{{self._scaler}}} 4\n"
            f"DCGM_FI_DEV_GPU_UTIL{{{self._device}}} 97\n"
            f"DCGM_FI_DEV_FB_USED{{{self._device}}} 40960\n"
        )


@contextmanager
def served(receiver: Receiver, exporter: Exporter) -> Iterator[None]:
    """Both, at one address, while the context lasts."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._answer(exporter.text().encode())

        def do_POST(self) -> None:
            receiver.take(json.loads(self.rfile.read(int(self.headers["content-length"]))))
            self._answer(b"")

        def log_message(self, *_: object) -> None:
            """Says nothing."""

        def _answer(self, body: bytes) -> None:
            self.send_response(200)
            self.send_header("content-type", "text/plain; version=0.0.4")
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            with suppress(ConnectionError):  # whoever asked waits no longer
                self.wfile.write(body)

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        receiver.address = exporter.address = f"127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield
        finally:
            server.shutdown()
            thread.join()
