"""Names of spans' attributes.

Those of OpenTelemetry's semantic conventions are spelt here: Python's constants for them move, and
the newer ones are private there. What has no name there begins with `specfuse.`.
"""

from __future__ import annotations

from typing import Final

ERROR_TYPE: Final = "error.type"
"""The reason of an error, as in its ErrorInfo; else a status."""

HTTP_METHOD: Final = "http.request.method"
HTTP_ROUTE: Final = "http.route"
HTTP_STATUS: Final = "http.response.status_code"

RPC_SYSTEM: Final = "rpc.system.name"
RPC_METHOD: Final = "rpc.method"
"""`package.Service/Method`."""
RPC_STATUS: Final = "rpc.response.status_code"
"""The name of a canonical code, such as DEADLINE_EXCEEDED."""

SERVER_ADDRESS: Final = "server.address"
SERVER_PORT: Final = "server.port"

REQUEST_ID: Final = "specfuse.request_id"
"""What a request is called in accounts and logs."""

CANCELLED: Final = "specfuse.cancelled"
"""True of what nobody waited for any more: it was ended from outside before it was done."""
