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
HTTP_RESENDS: Final = "http.request.resend_count"
URL_PATH: Final = "url.path"

RPC_SYSTEM: Final = "rpc.system.name"
RPC_METHOD: Final = "rpc.method"
"""`package.Service/Method`."""
RPC_STATUS: Final = "rpc.response.status_code"
"""The name of a canonical code, such as DEADLINE_EXCEEDED."""

SERVER_ADDRESS: Final = "server.address"
SERVER_PORT: Final = "server.port"

MEMBER: Final = "specfuse.member"
MEMBERS: Final = "specfuse.members"
"""The members that are asked in a phase of a round."""
ACTIVE_MEMBERS: Final = "specfuse.active_members"
"""How many members a round begins with."""
OUTCOME: Final = "specfuse.outcome"
"""How a call to a member ended, in the words of its metric."""
SECOND_CALL: Final = "specfuse.second_call"
"""Why a call is made once more, in the words of its metric."""

ROUND: Final = "specfuse.round"
"""Its number, from 1 on."""
ROUNDS: Final = "specfuse.rounds"
"""How many an answer took."""
WINNER: Final = "specfuse.winner"
TOKENS: Final = "specfuse.tokens"
"""Of the committed segment."""
DEGRADED: Final = "specfuse.degraded"
"""Whether any round did without a member that it should have had."""

STAGE: Final = "specfuse.stage"
"""What a call waits for, in the words of its metric."""
PASSES: Final = "specfuse.passes"
"""How many forward passes a call was in."""
FORWARD_SECONDS: Final = "specfuse.forward_seconds"
"""How long these took together."""
LARGEST_BATCH: Final = "specfuse.largest_batch"
MEAN_BATCH: Final = "specfuse.mean_batch"
"""Of how many calls steps were in one of these passes."""

OPERATION: Final = "gen_ai.operation.name"
WORKFLOW: Final = "gen_ai.workflow.name"
INPUT_TOKENS: Final = "gen_ai.usage.input_tokens"
OUTPUT_TOKENS: Final = "gen_ai.usage.output_tokens"
FINISH_REASONS: Final = "gen_ai.response.finish_reasons"

REQUEST_ID: Final = "specfuse.request_id"
"""What a request is called in accounts and logs."""

CANCELLED: Final = "specfuse.cancelled"
"""True of what nobody waited for any more: it was ended from outside before it was done."""
