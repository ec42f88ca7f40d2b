"""Who is let in: every call of every service is looked at before anything of it is read.

Mutual TLS has shown that the authority signed the caller's certificate; here it is seen that there
is one, that it is one holder's, that it has not expired since the connection was made, and that it
was not revoked. Which role may do what is for each service to say.
"""

import inspect
import logging
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from datetime import UTC, datetime
from typing import Any, TypeAlias

import grpc

from wardround.shared.errors import IdentityError
from wardround.shared.identity import Identity, identity_of

log = logging.getLogger(__name__)
Context = grpc.aio.ServicerContext[Any, Any]
_Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any] | None"


class Admission(grpc.aio.ServerInterceptor):
    """Refuses whoever cannot be identified, and everybody while revocations cannot be read.

    Args:
        revoked: Returns the serial numbers of certificates that no longer count; asked each call.
    """

    def __init__(self, revoked: Callable[[], frozenset[int]]) -> None:
        self._revoked = revoked

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[_Handler]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> _Handler:
        """Return the method's handler, behind the check."""
        handler: Any = await continuation(handler_call_details)
        if handler is None:  # there is no such method
            return handler
        guard = self._guard_stream if handler.response_streaming else self._guard
        kind = "stream" if handler.request_streaming else "unary"
        kinds = f"{kind}_{'stream' if handler.response_streaming else 'unary'}"
        make = getattr(grpc, f"{kinds}_rpc_method_handler")
        return make(  # type: ignore[no-any-return]
            guard(getattr(handler, kinds)),
            request_deserializer=handler.request_deserializer,
            response_serializer=handler.response_serializer,
        )

    def _guard(self, answer: Callable[[Any, Context], Any]) -> Callable[[Any, Context], Any]:
        async def guarded(request: Any, context: Context) -> Any:
            await self.admit(context)
            return await answer(request, context)

        return guarded

    def _guard_stream(self, answer: Callable[[Any, Context], Any]) -> Callable[[Any, Context], Any]:
        async def guarded(request: Any, context: Context) -> None:
            await self.admit(context)
            if not inspect.isasyncgenfunction(answer):
                await answer(request, context)
                return
            async with aclosing(answer(request, context)) as messages:
                async for message in messages:
                    await context.write(message)

        return guarded

    async def admit(self, context: Context) -> None:
        """End the call unless its caller may be heard."""
        try:
            revoked = self._revoked()
        except IdentityError as error:
            log.error("nobody is let in: %s", error)
            await context.abort(
                grpc.StatusCode.UNAVAILABLE,
                "the coordinator cannot read which certificates were revoked, so it lets nobody "
                "in. Have its register of certificates restored.",
            )
        try:
            caller = caller_of(context)
            _expect_valid(caller, revoked)
        except IdentityError as error:
            log.warning("refused a caller: %s", error)
            await context.abort(grpc.StatusCode.UNAUTHENTICATED, str(error))


def caller_of(context: Context) -> Identity:
    """Return who is calling, from the certificate of the connection.

    Raises:
        IdentityError: There is no certificate, or one that names no single holder.
    """
    certificates = tuple(context.auth_context().get("x509_pem_cert", ()))
    if len(certificates) != 1:
        raise IdentityError(
            "the connection shows no certificate. Connect with mutual TLS and the credentials "
            "that wardround site enroll made."
        )
    return identity_of(certificates[0])


def _expect_valid(caller: Identity, revoked: frozenset[int]) -> None:
    if caller.serial in revoked:
        raise IdentityError(
            f"the certificate of {caller.role} '{caller.name}' was revoked. Enrol again."
        )
    if caller.not_after < datetime.now(UTC):
        raise IdentityError(
            f"the certificate of {caller.role} '{caller.name}' expired on "
            f"{caller.not_after:%Y-%m-%d}. Renew it."
        )
