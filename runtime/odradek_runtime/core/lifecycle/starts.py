"""Starts: invocations that did not come from a record. A command or a request starts one, queues it, or finds it again.

An id stands for one invocation for as long as its completion is kept: the second that asks for it attaches to the first.
"""

from __future__ import annotations

import logging

from odradek_runtime.core.locks import Queued
from odradek_runtime.core.records import keys
from odradek_runtime.core.records.answers import completion, reply_of
from odradek_runtime.core.records.fingerprint import differ, fingerprint
from odradek_runtime.core.records.formats import COMMAND, ENDED, Command, Header, Stored, Timer
from odradek_runtime.core.records.request import Attach, Failure, Invoke, Pending, Reply
from odradek_runtime.core.running.invocation import PYTHON, Live
from odradek_runtime.core.scope import Scope
from odradek_runtime.core.shard import Shard
from odradek_runtime.core.topics.sizes import made_of

from .advance import Advance
from .failing import Failing
from .keeping import Keeping
from .limits import Limits
from .living import Living
from .outward import Outward
from .revival import Revival
from .workflows import Workflows

logger = logging.getLogger("odradek")

IDEMPOTENT_MS = 86_400_000
"""How long a completion with an idempotency key is kept, unless its handler says otherwise."""
ASKED_MS = 3_600_000
"""How long one without is: long enough to look it up after an unknown outcome or a move."""


class Starts:
    """Starts and finds the invocations of one machine's shards."""

    def __init__(
        self,
        scope: Scope,
        living: Living,
        keeping: Keeping,
        limits: Limits,
        outward: Outward,
        failing: Failing,
        revival: Revival,
        advance: Advance,
        workflows: Workflows,
    ) -> None:
        self._scope = scope
        self._living = living
        self._keeping = keeping
        self._limits = limits
        self._outward = outward
        self._failing = failing
        self._revival = revival
        self._advance = advance
        self._workflows = workflows

    def invoke(self, shard: Shard, command: Command) -> None:
        command.id = self._workflows.id_of(command.target, command.key or b"") or command.id  # another app knows only its name
        existing = self._living.stored(shard, command.id)
        if existing is not None:
            if command.idempotent and self._another_body(existing, command.payload):
                self._refuse_body(shard, existing, command)
            else:
                self._attach_caller(shard, existing, command)
            return
        retain_ms = self._retention(command.target, idempotent=command.idempotent)
        stored = invoked(command, retain_ms, self._scope.now_ms)
        over = self._why_unkept(stored)
        if over:
            self._outward.unstarted(command, f"{command.target} cannot be started: its entry {over}", shard)
            return
        if command.idempotent:
            stored.fingerprint = self._fingerprint(stored)
        self.begin(shard, stored, command.at_ms)

    def _why_unkept(self, stored: Stored) -> str:
        """Why the journal cannot keep an invocation, if it is to wait. "" if it can."""
        base = self._scope.base(stored.target.partition("/")[0], stored.key) if stored.target in self._scope.handlers else b""
        over = self._scope.sizes.why_unkept(stored, base)
        return over and over + made_of(stored.payload, stored.key, stored.headers)

    def attach(self, shard: Shard, command: Command) -> None:
        """A handler waits for the end of what it has not started itself."""
        existing = self._living.stored(shard, command.id)
        if existing is not None:
            self._attach_caller(shard, existing, command)
            return
        gone = Failure(404, f"there is no invocation {command.id}: it never was, or its retention has passed")
        self._outward.route(completion(command.caller_app, command.caller_id, command.ref, None, gone), shard)

    def _attach_caller(self, shard: Shard, existing: Stored, command: Command) -> None:
        if not command.caller_id:
            return
        complete = Command(kind="complete", id=command.caller_id, ref=command.ref, name=command.caller_app)
        if existing.status in ENDED:
            complete.payload, complete.failure = existing.result, existing.failure
            self._outward.route(complete, shard)
        elif (existing.caller_id, existing.caller_ref) != (command.caller_id, command.ref):
            shard.put(keys.attachment(existing.id, command.caller_id, command.ref), COMMAND.encode(complete))
            shard.attached.add(existing.id)

    def _refuse_body(self, shard: Shard, existing: Stored, command: Command) -> None:
        """The idempotency key stands for another request: its sender is told, and nothing runs."""
        if not command.caller_id:
            logger.warning("%s: %s", command.target, other_body(existing.id))
            return
        failure = Failure(409, other_body(existing.id), {"invocationId": existing.id})
        self._outward.route(
            Command(kind="complete", id=command.caller_id, ref=command.ref, name=command.caller_app, failure=failure), shard
        )

    def _fingerprint(self, stored: Stored) -> bytes:
        if self._workflows.retention_ms(stored.target):
            return b""  # whatever it is started with again, it is the same
        return fingerprint(self._scope.handlers.get(stored.target), stored.payload)

    def _another_body(self, existing: Stored, payload: bytes | None) -> bool:
        """Whether an idempotency key that this invocation was begun with comes again with something else."""
        if not existing.fingerprint:
            return False
        return differ(existing.fingerprint, fingerprint(self._scope.handlers.get(existing.target), payload))

    def _retention(self, target: str, *, idempotent: bool) -> int:
        workflow_ms = self._workflows.retention_ms(target)
        if workflow_ms or not idempotent:
            return workflow_ms
        handler = self._scope.handlers.get(target)
        kept_s = handler.idempotency_retention_s if handler is not None else None
        return IDEMPOTENT_MS if kept_s is None else max(int(kept_s * 1000), 1)  # 0 would be one that nobody can attach to

    def begin(self, shard: Shard, stored: Stored, at_ms: int) -> None:
        """A new invocation that did not come from a record: now, or when its time has come (a delay runs before the queue)."""
        self._scope.touch(shard)
        self._scope.epoch.count("started", stored.target)
        if at_ms > self._scope.now_ms:
            stored.status, stored.due_ms = "scheduled", at_ms
            shard.put(keys.invocation(stored.id), self._scope.sizes.entry(stored))
            shard.set_timer(keys.timer(at_ms, stored.id, keys.REF_START), Timer("start"))
        else:
            self.admit(shard, stored)

    def admit(self, shard: Shard, stored: Stored) -> None:
        """Start it, or queue it behind the holder of its key."""
        live = self._revival.revive(shard, stored)
        if live is None:
            return
        held = shard.locks.held.get(live.base) if live.handler.mode == "exclusive" else None
        if held is not None and not held.is_of(live):
            self._keeping.queue(live)
            return
        self._start(live)

    def _start(self, live: Live) -> None:
        if self._limits.full(live.handler.target):
            self._failing.over_limit(live)
            return
        if live.stored is not None:
            live.stored.status = "running"
        self._advance.start(live)

    def start_apart(self, shard: Shard, following: Queued | str) -> None:
        """As `start_next`, as an event of its own: while a poisonous record is looked for, no event runs two invocations."""
        if isinstance(following, Live):
            if following.closed:
                self._pass_over(shard, following)
                return
            self._keeping.put_in_line(shard, following)
            self._keeping.hold_key(following)
        elif isinstance(following, str) and not self._waits(shard, following):
            self._pass_over(shard, following)
            return
        id_ = following if isinstance(following, str) else following.id
        shard.set_timer(keys.timer(0, id_, keys.REF_START), Timer("start"))
        self._scope.touch(shard)

    def start_next(self, shard: Shard, following: Queued | str) -> None:
        """It was in an inbox and holds the key now, or its turn has come under its handler's limit."""
        if isinstance(following, Live):
            self._living.unqueue(shard, following)
            if following.closed:
                self._pass_over(shard, following)
            elif following.stored is not None and following.stored.status == "paused":
                self._keeping.hold_key(following)  # paused in line: it has its key from now on, and waits to be resumed
            else:
                self._start(following)
        elif isinstance(following, str):
            self._start_stored(shard, following)

    def _start_stored(self, shard: Shard, id_: str) -> None:
        stored = self._living.stored(shard, id_)
        if stored is None or stored.status in ("running", *ENDED):
            self._pass_over(shard, id_)
            return
        if stored.unbegun:  # paused before its turn came: it has its key from now on, and waits to be resumed
            self._limits.resume()
            return
        live = self._revival.revive(shard, stored)
        if live is None:
            return
        if self._limits.full(live.handler.target):
            self._failing.over_limit(live)
            return
        stored.status = "running"
        self._keeping.anchor(live)
        self._advance.start(live)

    def _pass_over(self, shard: Shard, following: Queued | str) -> None:
        """It was killed before its turn came, or somebody else has written its place: the next has its turn."""
        locks, id_ = shard.locks, following if isinstance(following, str) else following.id
        logger.info("shard %d: %s is to begin, and is not waiting: it is passed over", shard.number, id_)
        if isinstance(following, Live):
            held = locks.held.get(following.base)
            base = following.base if held is not None and held.is_of(following) else None
        else:
            base = next((base for base, held in locks.held.items() if held.holder == id_), None)
        after = locks.pass_on(base) if base is not None else None
        if after is not None:
            self._scope.ready.append((shard, after))
        self._limits.resume()  # a turn may have been its own
        self._scope.touch(shard)

    def _waits(self, shard: Shard, id_: str) -> bool:
        """Whether it is to begin still."""
        stored = self._living.stored(shard, id_)
        return stored is not None and stored.status not in ("running", *ENDED)

    def request(self, shard: Shard, request: Invoke | Attach, pending: Pending) -> None:
        """From HTTP. Every answer waits for the commit of the epoch it was found in (invariant 4)."""
        self._scope.touch(shard)
        self._scope.epoch.urgent = True
        stored = self._living.stored(shard, request.invocation_id)
        id_ = request.invocation_id
        if self._hidden(request, stored):
            self._reply(pending, Reply("not_found", id_))
        elif stored is None:
            self._unknown(shard, request, pending)
        elif isinstance(request, Invoke) and request.idempotent and self._another_body(stored, request.payload):
            self._reply(pending, Reply("other_body", id_))
        elif isinstance(request, Invoke) and not request.wait:
            self._reply(pending, Reply("previously_accepted", id_))
        elif stored.status in ENDED:
            self._reply(pending, reply_of(id_, stored.result, stored.failure))
        elif request.wait:
            self._wait(shard, pending)
        else:
            self._reply(pending, Reply("running", id_))

    def _hidden(self, request: Invoke | Attach, stored: Stored | None) -> bool:
        """Whether its handler is none of HTTP's business: then there is nothing, as under an id that never was.

        The worker that keeps an invocation judges, by the code that it runs, whichever worker the client has asked. An id alone
        shows nothing of a handler that this code does not have: it cannot be told whether that one was public.
        """
        handlers = self._scope.handlers
        asked_for = handlers.get(request.target) if isinstance(request, Invoke) else None
        found = handlers.get(stored.target) if stored is not None else None
        if any(handler is not None and not handler.public for handler in (asked_for, found)):
            return True
        return isinstance(request, Attach) and stored is not None and found is None

    def _unknown(self, shard: Shard, request: Invoke | Attach, pending: Pending) -> None:
        """There is no such invocation: it begins, if that was asked for."""
        id_ = request.invocation_id
        if isinstance(request, Attach):
            self._reply(pending, Reply("not_found", id_))
            return
        stored = asked(request, self._retention(request.target, idempotent=request.idempotent) or ASKED_MS, self._scope.now_ms)
        over = self._why_unkept(stored)
        if over:
            self._reply(pending, Reply("refused", id_, failure=Failure(413, f"{request.target} was not started: its entry {over}")))
            return
        if request.idempotent:
            stored.fingerprint = self._fingerprint(stored)
        if request.wait:
            self._wait(shard, pending)
        else:
            self._reply(pending, Reply("accepted", id_))
        self.begin(shard, stored, request.at_ms)

    def _wait(self, shard: Shard, pending: Pending) -> None:
        """Its answer comes with the end of the invocation. That there is one is said when this epoch is durable."""
        shard.waiters.setdefault(pending.request.invocation_id, []).append(pending)
        self._scope.epoch.accepted.append(pending)

    def _reply(self, pending: Pending, reply: Reply) -> None:
        self._scope.epoch.replies.append((pending, reply))


def other_body(id_: str) -> str:
    """What is said to whoever uses an idempotency key for something else."""
    return f"this idempotency key has started {id_} with another body; another request needs another key"


def invoked(command: Command, retain_ms: int, now_ms: float) -> Stored:
    """The journal topic's entry for an invocation that a command starts."""
    return Stored(
        id=command.id, target=command.target, key=command.key or b"", payload=command.payload, headers=command.headers,
        caller_app=command.caller_app, caller_id=command.caller_id, caller_ref=command.ref, retain_ms=retain_ms,
        created_ms=int(now_ms), python=PYTHON,
    )  # fmt: skip


def asked(request: Invoke, retain_ms: int, now_ms: float) -> Stored:
    """The same for one that a request starts."""
    headers = [Header(name, value.encode()) for name, value in request.headers.items()]
    return Stored(
        id=request.invocation_id, target=request.target, key=request.key, payload=request.payload, headers=headers,
        retain_ms=retain_ms, created_ms=int(now_ms), python=PYTHON,
    )  # fmt: skip
