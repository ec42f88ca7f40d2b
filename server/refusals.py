"""What a caller is told of an error: a status with our own words, or none of somebody else's."""

import logging
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

import grpc

from wardround.server.admission import Context
from wardround.server.live_study import LiveStudy
from wardround.shared.errors import (
    CheckpointError,
    ConnectionLost,
    IdentityError,
    JournalError,
    StaleLease,
    TrailError,
    UsageError,
    WardroundError,
    WireError,
)
from wardround.shared.identity import Identity

MAX_CHARACTERS = 2000  # an error travels in a header, where 8 KiB are allowed in all

# The first class that an error is an instance of decides.
_CODES: Mapping[type[WardroundError], grpc.StatusCode] = {
    IdentityError: grpc.StatusCode.PERMISSION_DENIED,
    StaleLease: grpc.StatusCode.FAILED_PRECONDITION,
    UsageError: grpc.StatusCode.FAILED_PRECONDITION,
    WireError: grpc.StatusCode.INVALID_ARGUMENT,
    CheckpointError: grpc.StatusCode.DATA_LOSS,
    ConnectionLost: grpc.StatusCode.UNAVAILABLE,
    # Sites wait until the coordinator is mended.
    JournalError: grpc.StatusCode.UNAVAILABLE,
    TrailError: grpc.StatusCode.UNAVAILABLE,
    WardroundError: grpc.StatusCode.INTERNAL,
}

log = logging.getLogger(__name__)


@asynccontextmanager
async def told(context: Context, caller: Identity, study: LiveStudy) -> AsyncIterator[None]:
    """Tell the caller of an error as a status; one of journal or trail ends the serving."""
    try:
        yield
    except WardroundError as error:
        log.warning("refused %s '%s': %s", caller.role, caller.name, error)
        if isinstance(error, JournalError | TrailError):
            study.fail(error)
        code = next(code for kind, code in _CODES.items() if isinstance(error, kind))
        await context.abort(code, str(error)[:MAX_CHARACTERS])
    except grpc.aio.AbortError:
        raise
    except Exception:
        # Its text may hold anything, so it stays here.
        log.exception("a call of %s '%s' failed", caller.role, caller.name)
        await context.abort(grpc.StatusCode.INTERNAL, "")
