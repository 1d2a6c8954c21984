"""Requests in flight: matching replies, repeating what is unanswered, giving up in time.

The law of repetitions: the same record under the same message_id again: a command while it is unanswered (after 5 s,
then twice as long each time, with jitter), a query only after a connection was lost; after a 429 when its wait fits in
the time left; never after another answer.
"""

import asyncio
import logging
import os
import random
import time
import weakref
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

from catalog_client.errors import NotConnected, NotSent, ReplyTimeout, UnreadableReply, wait_s_of
from catalog_client.hooks import Counters, Hooks
from catalog_client.replies import Envelope, read_envelope
from catalog_client.requests import Record
from catalog_client.wire import NotTakenError, Wire

Token = str | Callable[[], str] | Callable[[], Awaitable[str]]

REPEAT_AFTER_S: Final = 5.0
_JITTER: Final = 0.2
"""A wait is up to this part longer, so that clients do not come back in step."""
_AFTER_LOSS_S: Final = 1.0
"""Queries are repeated within this time of a loss, spread over it."""
_PUBLISH_AGAIN_S: Final = 0.25
"""After what Kafka did not take, for now."""
_TICK_S: Final = 0.01
"""What is due within the same one has one timer: a timer for each request would cost as much as its JSON."""
_GIVEN_UP: Final = 100_000
"""So many requests are remembered whose reply may still come."""
_TOO_MANY: Final = 429
_DEFECT: Final = 500

_log: Final = logging.getLogger("catalog_client")


class Settlement:
    """The answer that may follow a 500. It lives as long as the error that tells of it."""

    __slots__ = ("__weakref__", "_answer", "_arrived", "is_awaited")

    def __init__(self) -> None:
        self._answer: Envelope | None = None
        self._arrived = asyncio.Event()
        self.is_awaited = 0

    def settle(self, answer: Envelope) -> None:
        """It came."""
        self._answer = answer
        self._arrived.set()

    async def answer(self) -> Envelope:
        """Wait for it."""
        self.is_awaited += 1
        try:
            await self._arrived.wait()
        finally:
            self.is_awaited -= 1
        assert self._answer is not None  # noqa: S101 - set before the event
        return self._answer


class _Call:
    """A request in flight."""

    __slots__ = (
        "began", "correlation_id", "deadline", "handed", "is_command", "is_delayed", "is_limited", "is_overdue",
        "message_id", "publisher", "publishing", "record", "records", "reply", "settlement", "tick", "token", "wait_s",
    )  # fmt: skip

    def __init__(
        self,
        message_id: str,
        correlation_id: bytes,
        record: Record,
        token: Token,
        loop: asyncio.AbstractEventLoop,
        *,
        is_command: bool,
        deadline: float | None,
    ) -> None:
        self.message_id = message_id
        self.correlation_id = correlation_id
        self.record = record
        self.is_command = is_command
        self.deadline = deadline
        """In the loop's time; None: never."""
        self.began = loop.time()
        self.reply: asyncio.Future[Envelope] = loop.create_future()
        self.tick = 0
        """When it is looked after next; 0: never."""
        self.wait_s = 0.0
        """Until the next repetition."""
        self.records = 0
        """So many the broker may have."""
        self.handed: asyncio.Future[Any] | None = None
        """The last record, on its way to the broker."""
        self.is_limited = False
        """A 429 came; a repetition is due."""
        self.is_delayed = False
        """Kafka did not take it; another try is due."""
        self.is_overdue = False
        """Time was up before it was published at all."""
        self.publisher: asyncio.Task[Any] | None = None
        """Whoever publishes it first."""
        self.publishing: asyncio.Task[None] | None = None
        """A repetition."""
        self.settlement: Settlement | None = None
        self.token = token


class Exchange:
    """Sends requests and returns their answers, thousands at once."""

    def __init__(
        self, wire: Wire, token: Token, *, hooks: Hooks, max_in_flight: int, repeat_after_s: float = REPEAT_AFTER_S
    ) -> None:
        self.counters: Final = Counters()
        self._wire = wire
        self._token = token
        self._hooks = hooks
        self._repeat_after_s = repeat_after_s
        self._slots = asyncio.Semaphore(max_in_flight)
        self._prefix = os.urandom(6).hex()
        self._number = 0
        self._waiting: dict[bytes, _Call] = {}
        self._given_up: dict[bytes, None] = {}
        self._settling: weakref.WeakValueDictionary[bytes, Settlement] = weakref.WeakValueDictionary()
        self._due: dict[int, tuple[asyncio.TimerHandle, list[bytes]]] = {}
        """What is to be looked after, by ticks of the loop's time; what has ended meanwhile stays until then."""
        self._listening: asyncio.Task[None] | None = None
        self._listens = False
        self._loop = asyncio.get_running_loop()

    def next_correlation_id(self) -> str:
        """Make an id that no other request of any client has."""
        self._number += 1
        return f"{self._prefix}-{self._number}"

    # Asking ----------------------------------------------------------------------------------------------------------
    async def ask(
        self,
        message_id: str,
        correlation_id: str,
        record: Record,
        *,
        is_command: bool,
        timeout_s: float | None,
        token: Token | None = None,
    ) -> tuple[Envelope, Settlement | None]:
        """Publish a request and return its answer; of a 500 also what may follow. With a `token`, by another caller.

        Raise NotSent, ReplyTimeout or UnreadableReply. Who is cancelled forgets the answer; a command stands.
        """
        deadline = None if timeout_s is None else self._loop.time() + timeout_s
        if not self._listens:
            await self._listen(message_id, deadline)
        if self._slots.locked():
            await self._slot(message_id, deadline)
        else:
            await self._slots.acquire()
        call = _Call(
            message_id,
            correlation_id.encode(),
            record,
            self._token if token is None else token,
            self._loop,
            is_command=is_command,
            deadline=deadline,
        )
        self._waiting[call.correlation_id] = call
        try:
            call.wait_s = self._repeat_after_s
            self._arm(call, call.wait_s if is_command else None)
            await self._publish_first(call)
            envelope = await call.reply
            self.counters.answered += 1
            return envelope, call.settlement
        except BaseException:
            self._give_up(call.correlation_id)
            if call.reply.done() and not call.reply.cancelled():
                call.reply.exception()  # who was cancelled meanwhile does not want it
            raise
        finally:
            self._slots.release()
            del self._waiting[call.correlation_id]
            if call.publishing is not None:
                call.publishing.cancel()

    async def _listen(self, message_id: str, deadline: float | None) -> None:
        """Read replies; the first request waits for that, so that no reply can be missed."""
        listening = self._listening
        if listening is None or (listening.done() and (listening.cancelled() or listening.exception() is not None)):
            self._listening = listening = asyncio.create_task(self._wire.listen(self._on_reply, self._on_lost))
        try:
            async with asyncio.timeout_at(deadline):
                await asyncio.shield(listening)
        except TimeoutError:
            raise NotSent(message_id, "the reply topic could not be reached in time") from None
        except asyncio.CancelledError:
            if listening.cancelled():
                raise NotConnected("the client was closed") from None
            raise
        self._listens = True

    async def _slot(self, message_id: str, deadline: float | None) -> None:
        try:
            async with asyncio.timeout_at(deadline):
                await self._slots.acquire()
        except TimeoutError:
            raise NotSent(message_id, "as many requests as may be in flight waited for their answers") from None

    async def send(self, message_id: str, record: Record, timeout_s: float | None) -> None:
        """Publish a command that wants no answer; returns when the broker has it. Raise NotSent."""
        deadline = None if timeout_s is None else self._loop.time() + timeout_s
        try:
            async with asyncio.timeout_at(deadline):
                while True:
                    try:
                        await self._confirmed(record)
                        self.counters.sent += 1
                        return
                    except NotTakenError as error:
                        if error.is_final:
                            raise NotSent(message_id, str(error)) from None
                    await asyncio.sleep(_PUBLISH_AGAIN_S)
        except TimeoutError:
            raise NotSent(message_id, f"Kafka did not confirm it within {timeout_s:g} s; perhaps it has it") from None

    async def _confirmed(self, record: Record) -> None:
        handed = await self._wire.publish(await _with_token(record, self._token))
        try:
            await handed
        except Exception as error:
            raise self._wire.explained(error) from error

    async def _publish_first(self, call: _Call) -> None:
        """Hand the record over, from the task of the caller, whom the timer interrupts when time is up meanwhile.

        It is what `asyncio.timeout` does, with the timer that the request has anyway.
        """
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - a coroutine runs in one
        cancelling = task.cancelling()
        call.publisher = task
        try:
            await self._publish(call)
        except NotTakenError as error:
            self._not_taken(call, error)
        except asyncio.CancelledError:
            if not call.is_overdue or task.uncancel() > cancelling:
                raise
        finally:
            call.publisher = None

    async def _publish(self, call: _Call) -> None:
        """Hand the record over. Raise NotTakenError."""
        record = call.record
        handed = await self._wire.publish(
            _authorised(record, call.token) if isinstance(call.token, str) else await _with_token(record, call.token)
        )
        self.counters.sent += 1
        call.records += 1
        call.handed = handed
        handed.add_done_callback(lambda done: self._on_handed(call, done))

    def _on_handed(self, call: _Call, handed: asyncio.Future[Any]) -> None:
        error = None if handed.cancelled() else handed.exception()
        if error is not None:
            self._not_taken(call, self._wire.explained(error))

    def _not_taken(self, call: _Call, error: NotTakenError) -> None:
        if call.reply.done():
            return
        if not error.is_final:
            call.is_delayed = True
            self._arm(call, _PUBLISH_AGAIN_S)
        elif call.records <= 1:  # else an earlier record may still be answered
            call.reply.set_exception(NotSent(call.message_id, str(error)))

    # Repeating -------------------------------------------------------------------------------------------------------
    def _arm(self, call: _Call, wait_s: float | None) -> None:
        """Say when a request is looked after next: for its next repetition, or its end where that is earlier."""
        at = None if wait_s is None else self._loop.time() + wait_s * (1 + random.random() * _JITTER)  # noqa: S311
        if call.deadline is not None and (at is None or at > call.deadline):
            at = call.deadline
        if at is None:
            call.tick = 0
            return
        call.tick = tick = int(at / _TICK_S) + 1
        due = self._due.get(tick)
        if due is None:
            timer = self._loop.call_at(tick * _TICK_S, self._on_tick, tick)
            self._due[tick] = (timer, [call.correlation_id])
        else:
            due[1].append(call.correlation_id)

    def _on_tick(self, tick: int) -> None:
        for correlation_id in self._due.pop(tick)[1]:
            call = self._waiting.get(correlation_id)
            if call is not None and call.tick == tick and not call.reply.done():
                self._on_time(call)

    def _on_time(self, call: _Call) -> None:
        if call.deadline is not None and self._loop.time() >= call.deadline:
            self._end_unanswered(call, "Kafka could not be reached in time")
            if call.publisher is not None:
                call.is_overdue = True
                call.publisher.cancel()
            return
        if call.is_limited or call.is_delayed:
            call.is_limited = call.is_delayed = False
        elif call.is_command:
            call.wait_s *= 2
        self._arm(call, call.wait_s if call.is_command else None)
        is_under_way = call.publisher is not None or (call.handed is not None and not call.handed.done())
        if not is_under_way and (call.publishing is None or call.publishing.done()):
            call.publishing = asyncio.create_task(self._repeat(call))

    def _end_unanswered(self, call: _Call, reason: str) -> None:
        if not call.records:
            call.reply.set_exception(NotSent(call.message_id, reason))
            return
        self.counters.timed_out += 1
        self._give_up(call.correlation_id)  # here: its reply may come before who waits for it is run
        call.reply.set_exception(ReplyTimeout(call.message_id, self._loop.time() - call.began, call.records))

    async def _repeat(self, call: _Call) -> None:
        is_first = not call.records
        try:
            await self._publish(call)
        except NotTakenError as error:
            self._not_taken(call, error)
            return
        except Exception:  # noqa: BLE001 - the application's own function for tokens
            _log.exception("request %s could not be repeated", call.message_id)
            return
        if not is_first:
            self.counters.repeated += 1
            self._hooks.call("repeated", call.message_id, call.records)

    def _on_lost(self) -> None:
        """A connection broke: what was asked over it may be lost."""
        for call in self._waiting.values():
            if not call.is_command and call.records and not call.is_limited:
                self._arm(call, random.random() * _AFTER_LOSS_S)  # noqa: S311 - to spread them

    # Answers ---------------------------------------------------------------------------------------------------------
    def _on_reply(self, headers: Mapping[str, bytes | None], key: bytes | None, body: bytes) -> None:
        correlation_id = headers.get("correlation_id") or key or b""
        call = self._waiting.get(correlation_id)
        if call is None or call.reply.done():
            self._on_other(correlation_id, headers, body)
            return
        try:
            envelope = read_envelope(body, headers)
        except ValueError as error:
            call.reply.set_exception(UnreadableReply(call.message_id, None, str(error)))
            return
        if envelope.status_code == _TOO_MANY and self._waits(call, envelope):
            return
        if envelope.status_code == _DEFECT:
            call.settlement = self._settling[correlation_id] = Settlement()
            self._give_up(correlation_id)
        call.reply.set_result(envelope)

    def _waits(self, call: _Call, envelope: Envelope) -> bool:
        """Repeat what was refused for its rate, where the wait fits into the time left."""
        wait_s = wait_s_of(envelope)
        if wait_s is None:
            return False
        longest_s = wait_s * (1 + _JITTER)
        if call.deadline is not None and self._loop.time() + longest_s >= call.deadline:
            return call.is_limited  # an earlier one is due
        if not call.is_limited:
            call.is_limited = True
            self._arm(call, wait_s)
        return True

    def _on_other(self, correlation_id: bytes, headers: Mapping[str, bytes | None], body: bytes) -> None:
        """Count a reply that no request waits for; one to another client on the same topic is none of ours."""
        if not correlation_id.startswith(self._prefix.encode()):
            return
        try:
            envelope = read_envelope(body, headers)
        except ValueError:
            _log.warning("a reply to %r cannot be read", correlation_id)
            return
        if correlation_id not in self._given_up:
            self.counters.duplicate += 1
            self._hooks.call("duplicate", envelope)
            return
        settlement = self._settling.get(correlation_id)
        if envelope.status_code == _DEFECT and settlement is not None:
            self.counters.duplicate += 1
            self._hooks.call("duplicate", envelope)
            return
        del self._given_up[correlation_id]
        is_awaited = settlement is not None and bool(settlement.is_awaited)
        if settlement is not None:
            settlement.settle(envelope)
        if not is_awaited:
            self.counters.late += 1
            self._hooks.call("late", envelope)

    def _give_up(self, correlation_id: bytes) -> None:
        self._given_up[correlation_id] = None
        if len(self._given_up) > _GIVEN_UP:
            del self._given_up[next(iter(self._given_up))]

    # The end ---------------------------------------------------------------------------------------------------------
    @property
    def waiting(self) -> int:
        """How many requests are in flight."""
        return len(self._waiting)

    async def close(self) -> None:
        """End what waits: its answer can no longer come."""
        if self._listening is not None and not self._listening.done():
            self._listening.cancel()
            await asyncio.wait({self._listening})
        for call in self._waiting.values():
            if not call.reply.done():
                self._end_unanswered(call, "the client was closed")
        for timer, _ in self._due.values():
            timer.cancel()
        self._due.clear()


async def _with_token(record: Record, token: Token) -> Record:
    if not isinstance(token, str):
        made = token()
        token = made if isinstance(made, str) else await made
    return _authorised(record, token)


def _authorised(record: Record, token: str) -> Record:
    headers = [*record.headers, ("authorization", b"Bearer " + token.encode())]
    return Record(record.topic, record.key, headers, record.body)


def epoch_ms(timeout_s: float) -> int:
    """Say by the wall clock when a time-out ends."""
    return int((time.time() + timeout_s) * 1000)
