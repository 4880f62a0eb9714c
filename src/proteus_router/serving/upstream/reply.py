"""What one upstream answered: a body, or a stream that always ends in a way the caller can understand."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field

import aiohttp

from proteus_router.errors import UpstreamError, UpstreamReplyError
from proteus_router.serving.records import PoolModel, Usage
from proteus_router.serving.upstream.faults import as_upstream_error
from proteus_router.serving.upstream.sse import EventStream, MalformedStreamError, error_event

__all__ = ["Reply", "first_block", "stream_blocks"]


@dataclass(slots=True)
class Reply:
    """A 200 from one model, ready to be sent on.

    Attributes
    ----------
    headers
        ``content-type`` and nothing else of the upstream's.
    body
        The whole answer; b"" for a stream.
    chunks
        Blocks of whole events, or None where `body` holds the answer. Iterating raises nothing that is the upstream's
        fault: a stream that breaks ends with the error event of its shape, and `error` then says why.
    attempts, first_byte_s
        Calls made to the model; seconds from the last of them to its first byte.
    usage
        As the upstream counted; for a stream, known once it has ended.
    error
        Why the stream did not end well. None while it runs, and where it did.
    """

    model: PoolModel
    headers: dict[str, str]
    body: bytes
    chunks: AsyncIterator[bytes] | None
    first_byte_s: float
    status: int = 200
    attempts: int = 1
    usage: Usage | None = None
    error: UpstreamError | None = None
    response: aiohttp.ClientResponse | None = field(default=None, repr=False)
    closed: bool = False

    async def aclose(self) -> None:
        """Drop the upstream's connection if it is still answering: it can stop, and stop billing."""
        self.closed = True
        if self.response is not None:
            self.response.close()


async def first_block(response: aiohttp.ClientResponse, events: EventStream, model: PoolModel) -> bytes:
    """The first block of events. What fails up to here has cost the caller nothing and may be tried again."""
    block, data = b"", b" "
    while data and not block:
        data = await response.content.readany()
        try:
            block = events.feed(data) if data else events.end()
        except MalformedStreamError as error:
            raise _malformed(model, error) from error
        if events.failed:
            raise _failed(model, "reported a failure in its first event")
    if not data and not events.complete:
        raise _failed(model, "closed its stream before the end")
    return block


async def stream_blocks(
    reply: Reply, first: bytes, events: EventStream, broken: Callable[[], None]
) -> AsyncIterator[bytes]:
    """`first` and what follows it; keeps `reply` up to date and calls `broken` where the model let it down."""
    response, model = reply.response, reply.model
    assert response is not None
    failure: UpstreamError | None = None
    rest = b""
    blame = True
    try:
        yield first
        while data := await response.content.readany():
            if block := events.feed(data):
                yield block
        rest = events.end()
        if events.failed:
            failure = _failed(model, "reported a failure in its stream")
        elif not events.complete:
            failure = _failed(model, "closed its stream before the end")
    except MalformedStreamError as error:
        failure, rest = _malformed(model, error), error.args[1]
    except (aiohttp.ClientError, TimeoutError, OSError) as error:
        if not events.complete:  # what a server does after its last event is its own affair
            failure = as_upstream_error(error, model)
        blame = type(error) is not TimeoutError  # a long answer that ran out of time is no sign of ill health
    finally:
        response.close()  # does nothing to a connection that finished and is back in the pool
        reply.usage = events.usage
    if reply.closed:
        return
    if failure is not None:
        failure.attempts = reply.attempts
        reply.error = failure
        if blame:
            broken()
        if not events.failed:  # else the caller has the upstream's own event
            rest += error_event(model.api, failure)
    if rest:
        yield rest


def _failed(model: PoolModel, what: str) -> UpstreamReplyError:
    return UpstreamReplyError(f"{model.name} {what}.", model=model.name)


def _malformed(model: PoolModel, error: MalformedStreamError) -> UpstreamReplyError:
    return _failed(model, f"sent a stream that can't be read: {error.args[0]}")
