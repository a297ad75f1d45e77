"""The gRPC door: converts a request, has it answered, converts the events."""

from __future__ import annotations

from contextlib import aclosing
from typing import Any

from grpc.aio import ServicerContext
from opentelemetry.trace import get_current_span

from fuser_service.doors.grpc import wire
from fuser_service.doors.grpc.credentials import credentials_of
from fuser_service.reports import new_request_id
from fuser_service.service import FuserService
from fuser_service.tenancy.caller import Caller
from fuser_service.validation import GenerateRequest
from specfuse.errors import InvalidArgument
from specfuse.headers import REQUEST_ID
from specfuse.observability.tracing import conventions
from specfuse.rpc.server import RpcService, deadline_of, send
from specfuse.v1 import fuser_service_pb2 as pb
from specfuse.v1.fuser_service_pb2_grpc import (
    FuserServiceServicer,
    add_FuserServiceServicer_to_server,
)


def rpc_service(service: FuserService) -> RpcService:
    """The door as a server takes it."""
    name = pb.DESCRIPTOR.services_by_name["FuserService"].full_name
    return RpcService(name, FuserServicer(service), add_FuserServiceServicer_to_server)


class FuserServicer(FuserServiceServicer):
    """`specfuse.v1.FuserService`. Errors pass through: an interceptor turns them into statuses."""

    def __init__(self, service: FuserService) -> None:
        self._service = service

    async def Generate(  # type: ignore[override]  # noqa: N802 (it sends by itself; contract's name)
        self, request: pb.GenerateRequest, context: ServicerContext[Any, Any]
    ) -> None:
        """Answers one query, an event at a time."""
        request_id = new_request_id()
        get_current_span().set_attribute(conventions.REQUEST_ID, request_id)
        await context.send_initial_metadata(((REQUEST_ID, request_id),))
        caller = self._service.caller(credentials_of(context))
        asked = self._asked(request, caller, request_id)
        deadline = self._service.deadline_of(asked, caller, deadline_of(context))
        async with aclosing(self._service.generate(asked, caller, deadline)) as events:
            async for event in events:
                await send(context, wire.response(event), deadline)

    async def ListEnsembles(  # noqa: N802 (the contract's name)
        self, request: pb.ListEnsemblesRequest, context: ServicerContext[Any, Any]
    ) -> pb.ListEnsemblesResponse:
        """Lists the ensembles that the caller may ask, by name."""
        del request
        caller = self._service.caller(credentials_of(context))
        return wire.ensembles(self._service.ensembles(caller))

    def _asked(
        self, request: pb.GenerateRequest, caller: Caller, request_id: str
    ) -> GenerateRequest:
        try:
            return wire.generate_request(request, request_id=request_id)
        except InvalidArgument:
            self._service.refused(caller, request_id)
            raise
