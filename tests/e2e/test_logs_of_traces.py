"""What a service that traces logs: JSON as its settings say, with the trace of each request."""

from __future__ import annotations

import json
import urllib.request
from pathlib import Path

from tests.support.command import running

FUSER = {
    "listen": "127.0.0.1:0",
    "metrics_listen": "127.0.0.1:0",
    "http": {"listen": "127.0.0.1:0"},
    "members": {"a": {"endpoints": ["127.0.0.1:1"]}},
    "ensembles": {"all": {"members": ["a"]}},
    "tracing": {"endpoint": "127.0.0.1:1", "sample_ratio": 1.0},
    "log_format": "json",
}


def test_every_line_is_an_object_and_those_of_a_request_have_its_trace(tmp_path: Path) -> None:
    file = tmp_path / "fuser.yaml"
    file.write_text(json.dumps(FUSER))
    with running("fuser", "serve", str(file)) as fuser:
        request = urllib.request.Request(
            f"http://{fuser.ready['http_address']}/v1/models",
            headers={"traceparent": f"00-{'a' * 32}-{'b' * 16}-01"},
        )
        with urllib.request.urlopen(request) as answer:
            request_id = answer.headers["x-request-id"]
        code, _, stderr = fuser.end()
    assert code == 0
    lines = [json.loads(line) for line in stderr.splitlines()]
    (of_request,) = [line for line in lines if "/v1/models" in line["message"]]
    assert f"{of_request['trace_id']}-{of_request['span_id']}" == request_id
    assert of_request["trace_id"] == "a" * 32
    assert all("trace_id" not in line for line in lines if line is not of_request)
    away = [line for line in lines if "spans cannot be sent" in line["message"]]
    assert [line["level"] for line in away] in ([], ["WARNING"])
