"""Deliberate defects of the engine, one at a time, for the simulation to find: what is replaced by what, in which file.

Beside these, `PATCHES` names those of `tests/mutants` that are about what the simulation runs for real and that a program can
notice (a store whose position lags behind its data, for instance, only reads some of the log again).
"""

from __future__ import annotations

from dataclasses import dataclass

ENGINE = "runtime/odradek_runtime/"


@dataclass(frozen=True)
class Defect:
    """`old` stands in the file once. `harmless`: why nothing can go wrong without it, when that is so."""

    name: str
    what: str
    file: str
    old: str
    new: str
    harmless: str = ""
    poison: float | None = None
    """Look for it with so much poison."""


PATCHES = (
    "ages-by-wall", "bad-record-blocks", "ends-before-settle", "engine-sends-ahead", "failed-attempt-kept", "failed-sends-kept",
    "foreign-records-kept", "foreign-state-read",
    "group-is-authority", "last-attempt-kept", "local-before-barrier", "old-store", "one-barrier",
    "outbox-kept", "poison-not-isolated", "poisonous-command", "read-before-committed", "released-too-early", "reply-before-commit",
    "reset-reads-stale", "reset-twice", "reset-under-old-ids",
    "stale-batches", "stale-read", "stamps-unchecked", "start-uncommitted", "state-unstamped",
    "step-before-commit", "store-written-first", "successor-kept", "taken-at-once", "torn-forgotten", "torn-not-healed",
    "torn-state", "unfenced-source", "waiting-forgotten", "waiting-not-looked-up",
    "waits-by-wall",
)  # fmt: skip

DEFECTS = (
    Defect(
        "fence-skipped", "an epoch without its shard's fence among the offsets", "core/epoch.py",
        "            transaction.offsets[commands] = shard.positions.get(commands, 0)\n",
        "            if shard.advanced:\n                transaction.offsets[commands] = shard.positions.get(commands, 0)\n",
    ),
    Defect(
        "settle-skipped", "a take-over does not settle what the last owner left open", "worker/restore/takeover.py",
        "        committed = self._member.settle(number)\n", "        committed = None\n",
    ),
    Defect(
        "doubt-ignored", "an unknown outcome does not start over: the next epoch goes on as if it had failed",
        "worker/engine/engine.py",
        "        self.flags.start_over = event.message\n",
        '        self.flags.start_over = "" if event.reason == "unknown" else event.message\n',
    ),
    Defect(
        "inbox-entry-lost", "the last entry of an inbox is lost when its key is freed", "core/locks.py",
        "        while held.head < held.tail:\n", "        while held.head + 1 < held.tail:\n",
    ),
    Defect(
        "inbox-forgotten", "locks and inboxes are not loaded after a restore", "core/locks.py",
        "            self.held[base] = Held(lock.holder, lock.head, lock.tail)\n", "",
    ),
    Defect(
        "key-free-until-close", "one that waits has its key only when its epoch closes", "core/lifecycle/keeping.py",
        '        if live.handler.mode == "exclusive" and live.base not in locks.held:\n', "        if False:\n",
    ),
    Defect(
        "line-lost", "of those that have come for a key in this epoch none has its turn", "core/locks.py",
        "        if held.behind:\n", "        if False:\n",
    ),
    Defect(
        "line-unwritten", "the last of those that wait for a key when an epoch closes is not put in line", "core/locks.py",
        "            while held is not None and held.behind:\n",
        "            while held is not None and held.behind is not None and len(held.behind) > 1:\n",
    ),
    Defect(
        "lock-unwritten", "who holds a key is not written when the epoch closes", "core/locks.py",
        "            held.holder = invocation.id\n            self._changed[base] = None\n",
        "            held.holder = invocation.id\n",
    ),
    Defect(
        "lock-left", "a key that was held over an epoch's end stays held in the journal", "core/locks.py",
        "        if base in self._written:\n", "        if False:\n",
    ),
    Defect(
        "light-steps-unwritten", "what brings back a step is not written with its invocation", "core/lifecycle/keeping.py",
        "            if op.run is not None and op.ref not in live.journal.completed:\n", "            if False:\n",
    ),
    Defect(
        "steps-forgotten", "timers that are due already, which are running steps, are not loaded after a restore", "core/timers.py",
        '        self._cursor = keys.timer(0, "", 0)[:9]\n', '        self._cursor = keys.timer(1, "", 0)[:9]\n',
    ),
    Defect(
        "far-timers-forgotten", "timers beyond the window are never loaded", "core/timers.py",
        "        self._cursor = end\n", '        self._cursor = keys.timer(int(now_ms) + 2 * WINDOW_MS, "", -(2**31))\n',
    ),
    Defect(
        "offset-too-early", "positions are one record ahead of what was processed", "worker/engine/intake.py",
        "messages[-1].offset() + 1\n", "messages[-1].offset() + 2\n",
    ),
    Defect(
        "offset-unchecked", "a record that is read again is processed again", "worker/engine/intake.py",
        "        if messages[0].offset() < expected:", "        if messages[0].offset() < 0:",
        harmless="a fetch begins where it was told, and batches of earlier generations are dropped: it is a second line",
    ),
    Defect(
        "result-twice", "the second result of a step or call is taken as well", "core/lifecycle/advance.py",
        "        if completion.ref in live.journal.completed:\n            return\n", "",
        harmless="nobody waits for it any more, and a replay drops it (Journal.load): the first one stays final",
    ),
    Defect(
        "timers-left", "an invocation that ends leaves its timers behind", "core/lifecycle/ending.py",
        "        for timer in (live.deadline, *(op.timer for op in live.ops.values()), *_timers_ahead(live)):\n",
        "        for timer in list[bytes]():\n",
    ),
    Defect(
        "timers-ahead-left", "one that ends before it is replayed leaves the timers behind that it has not come to",
        "core/lifecycle/ending.py",
        ", *_timers_ahead(live)):\n", "):\n",
    ),
    Defect(
        "start-over-keeps", "a start-over keeps what its shards have in memory until they are restored", "worker/engine/engine.py",
        "            self._handover.forget(number)\n            if number not in leaving:\n",
        "            self.intake.close(shard)\n            if number not in leaving:\n",
    ),
    Defect(
        "step-runs-twice", "a step that runs is started a second time", "core/lifecycle/due.py",
        " or live.closed or (stored.id, ref) in shard.running:\n", " or live.closed:\n",
    ),
    Defect(
        "next-step-early", "a step starts before the result that it follows is durable", "worker/engine/engine.py",
        "            self._commits.send()\n",
        "            self._commits.send()\n            if epoch.results:\n                self._executor.submit(epoch.steps)\n"
        "                epoch.steps = []\n",
    ),
    Defect(
        "all-steps-early", "a step starts at once though its author has not said that it may", "core/lifecycle/keeping.py",
        "        if run.body.idempotent and not self._scope.splitting:\n", "        if not self._scope.splitting:\n",
    ),
    Defect(
        "dropped-run-counts", "the result of a step that was started for a dropped epoch is taken in a later one",
        "worker/engine/agenda.py",
        "shard is not None and shard.incarnation == event.run.incarnation and shard.phase", "shard is not None and shard.phase",
    ),
    Defect(
        "early-forgotten", "a step that was to start at once, and has not when the epoch closes, is forgotten",
        "core/lifecycle/keeping.py",
        "            epoch.steps += epoch.early\n", "",
        harmless="only a worker that stops, or starts over, closes an epoch with such: whoever has the shard next finds the timer",
    ),
    Defect(
        "reply-after-step-early", "a reply goes out before the step's result that it follows is durable",
        "worker/engine/commits.py",
        "        self._member.commit(transaction)\n",
        "        for answer, reply in epoch.replies if epoch.results else ():\n            answer(reply)\n"
        "        self._member.commit(transaction)\n",
    ),
    Defect(
        "result-dropped", "an attempt that fails takes the results with it that it has seen in its epoch",
        "core/lifecycle/failing.py",
        "    live.refusals = None\n", "    live.refusals = None\n    live.journal.unwritten = []\n",
    ),
    Defect(
        "eviction-ignored", "a member that was evicted goes on with its open epoch", "worker/engine/handover.py",
        '            self._flags.start_over = "shards were lost"\n', "            pass\n",
        harmless="the stamps fence its next epoch, and it starts over then: it only takes longer",
    ),
    Defect(
        "old-restore-taken", "the restore of an earlier ownership is accepted", "worker/restore/ownership.py",
        "        if owned is None or owned.attempt != event.attempt:\n", "        if owned is None:\n",
    ),
    Defect(
        "taken-while-leaving", "a shard is taken again before it has been let go of", "worker/engine/handover.py",
        "        leaving = self.leaving()\n        for number in [number for number in self._gained",
        "        leaving = set[int]()\n        for number in [number for number in self._gained",
    ),
    Defect(
        "attached-forgotten", "who has attached to an invocation is forgotten by a restore", "core/shard.py",
        '        self.attached.update(keys.attached_id(key) for key, _ in self.store.scan(b"a", b"b"))\n', "",
    ),
    Defect(
        "outbox-forgotten", "a restore forgets that something waits for another app", "core/shard.py",
        "            self.outboxes.add(app)\n            owed", "            owed",
    ),
    Defect(
        "incarnation-kept", "a new owner goes on under the incarnation of the old one", "worker/restore/takeover.py",
        "found.incarnation + 1 if", "found.incarnation if",
    ),
    Defect(
        "sequence-restarts", "journal chunks are numbered from the start again after a restore", "worker/restore/takeover.py",
        "found.sequence if found is not None else 0, store", "0, store",
    ),
    Defect(
        "journal-unwritten", "the first invocation of an epoch does not get its journal written", "core/lifecycle/keeping.py",
        "            self.flush(live)\n        for shard",
        "            self.flush(live) if live.journal.delivered else None\n        for shard",
    ),
    Defect(
        "chunks-in-commit-unseen", "a replay does not see the journal of the epoch that is being committed", "core/shard.py",
        "        found = [*self._chunks_committing.get(prefix, ()), *self._chunks.get(prefix, ())]\n",
        "        found = [*self._chunks.get(prefix, ())]\n",
    ),
    Defect(
        "commit-unread", "what is being committed is not read", "core/shard.py",
        "            value = self.committing.get(key, ABSENT)\n", "            value = ABSENT\n",
    ),
    Defect(
        "promise-waiters-unseen", "who waits for a promise since the epoch that is being committed is not found", "core/shard.py",
        "            self._chunks.setdefault(key[: -keys.WAITER_BYTES], []).append(key)\n", "            pass\n",
    ),
    Defect(
        "promise-given-twice", "a promise that has its value is given another one, too", "core/operations/promise.py",
        "        first = not asker.replaying and _read(asker, row) is None\n", "        first = not asker.replaying\n",
    ),
    Defect(
        "promise-unparting", "one that ends at once does not give what it gives", "core/operations/promise.py",
        "    parting = True\n", "",
    ),
    Defect(
        "promise-unread", "a promise that has its value is awaited as if it had none", "core/operations/promise.py",
        "        found = None if asker.replaying else _read(asker, row)\n", "        found = None\n",
    ),
    Defect(
        "workflow-twice", "a record starts a workflow that has begun already", "core/lifecycle/delivery.py",
        "        if self._living.stored(live.shard, live.id) is not None:\n            self._left_out(live)\n",
        "        if False:\n            self._left_out(live)\n",
    ),
    Defect(
        "workflow-abroad-again", "another app's start of a workflow is another invocation", "core/lifecycle/starts.py",
        '        command.id = self._workflows.id_of(command.target, command.key or b"") or command.id',
        "        command.id = command.id",
    ),
    Defect(
        "attach-misses", "who attaches to what has ended is not told of its end", "core/lifecycle/starts.py",
        "        if existing.status in ENDED:\n            complete.payload", "        if False:\n            complete.payload",
    ),
    Defect(
        "resolve-dropped", "an awakeable is not resolved by one that ends at once", "core/operations/resolve.py",
        "    parting = True\n", "    parting = False\n",
    ),
    Defect(
        "resolve-stays-home", "a value for another app's awakeable is looked for in this one", "core/operations/resolve.py",
        ", failure=failure, name=app)", ", failure=failure)",
    ),
    Defect(
        "given-while-aside", "a value that comes while its invocation backs off is not kept", "core/lifecycle/settling.py",
        "        if stored.status in UNBEGUN:\n", '        if stored.status in (*UNBEGUN, "backing_off"):\n',
    ),
    Defect(
        "given-unread", "whether an evicted invocation waits is not told from its journal", "core/lifecycle/settling.py",
        "        entry = journal.command(ref)\n", "        entry = journal.command(ref) if live is not None else None\n",
    ),
    Defect(
        "delay-forgotten", "a delayed start is not written down as a timer", "core/lifecycle/starts.py",
        "            shard.set_timer(keys.timer(at_ms, stored.id, keys.REF_START), Timer(\"start\"))\n", "",
    ),
    Defect(
        "done-again", "a call with the idempotency key of one that has ended runs again", "core/lifecycle/starts.py",
        "        if existing is not None:\n            if command.idempotent and",
        "        if existing is not None and existing.status not in ENDED:\n            if command.idempotent and",
    ),
    Defect(
        "key-not-passed-on", "the next in the inbox is not started", "core/lifecycle/ending.py",
        "                self._scope.ready.append((live.shard, following))\n", "                pass\n",
    ),
    Defect(
        "step-late", "the end of a step joins an epoch that has no room, beside a suspect", "worker/engine/agenda.py",
        "            if not self.ended or self._full():\n", "            if not self.ended:\n", poison=0.1,
    ),
    Defect(
        "verdict-forgotten", "a suspect is no longer one when its failure was not committed", "worker/engine/engine.py",
        "            self.machine.poison.update(epoch.condemned)\n            self.flags.refused",
        "            self.flags.refused", poison=0.1,
    ),
    Defect(
        "position-first", "a store's position is written before the data, in a batch of its own", "core/shard.py",
        "            self.store.write([*self.unstored.items(), (keys.STORE_POSITION, STORE_POSITION.encode(self.at))])\n",
        "            self.store.write([(keys.STORE_POSITION, STORE_POSITION.encode(self.at))])\n"
        "            self.store.write(self.unstored.items())\n",
    ),
    Defect(
        "older-barrier", "a barrier that was asked for earlier counts for a later one", "core/lifecycle/outward.py",
        '        shard.barrier = ""  #', "        #",
    ),
    Defect(
        "empty-epoch-full", "an epoch full of events that did nothing is never closed", "worker/engine/engine.py",
        "            epoch.events = epoch.bytes = 0  # events that did nothing: an epoch full of them would never be closed\n",
        "            pass\n",
    ),
    Defect(
        "answer-dates-store", "a store is as old as the commit's answer, not as the commit", "worker/engine/commits.py",
        "event.positions[shard_number], int(self._sent_ms), self", "event.positions[shard_number], int(machine.now_ms), self",
    ),
    Defect(
        "ended-step-runs", "a step runs though its invocation has ended in the epoch that would have started it",
        "core/lifecycle/ending.py",
        "        if (epoch.steps or epoch.early) and live.ops:", "        if epoch.steps and not live:",
    ),
    Defect(
        "merge-ends-replay", "an end amid a replay takes the rest for replayed, and leaves its timers behind",
        "core/records/journal.py",
        "        if commands:\n", "        if True:\n",
    ),
    Defect(
        "letter-refused", "a suspect whose dead letter is refused as well is tried for ever", "worker/engine/isolation.py",
        "                if root in epoch.condemned:\n                    self._machine.bare.add(root)\n", "",
    ),
    Defect(
        "search-undone", "each end of small epochs begins the search for a culprit anew", "worker/engine/isolation.py",
        "            self._machine.bare.clear()\n", "            self._machine.bare.clear()\n            self._poisonings = 0\n",
        poison=0.1,
    ),
    Defect(
        "last-not-first", "of the invocations of an event the first is suspected, not the last", "worker/engine/isolation.py",
        "dict.fromkeys(reversed(epoch.roots))", "dict.fromkeys(epoch.roots)", poison=0.1,
    ),
    Defect(
        "named-apart", "an idempotency key is another one when its handler is named with its app", "core/operations/call.py",
        "shared_id(asker.scope, app, local, key,", "shared_id(asker.scope, app, asked.target, key,",
    ),
    Defect(
        "anew-unseen", "an input that is made again while the app runs is read on from the old position",
        "worker/upkeep/housekeeping.py",
        "        if anew:\n", "        if not anew and anew:\n",
    ),
    Defect(
        "id-of-the-home", "a forwarded record is taken for one of the topic that its key's shard knows",
        "core/running/invocation.py",
        "told = self.message.topic_id if", 'told = "" if',
    ),
    Defect(
        "state-unmeasured", "state is written whatever its size", "core/running/invocation.py",
        "        if size > self.scope.sizes.plain_state:\n", "        if size < 0:\n",
    ),
    Defect(
        "result-unmeasured", "a result is taken whatever its size", "core/lifecycle/advance.py",
        "        over = self._scope.sizes.why_no_result(live.stored, result) if live.stored is not None else \"\"\n",
        '        over = ""\n',
    ),
    Defect(
        "step-unmeasured", "a step's result is recorded whatever its size", "core/topics/sizes.py",
        "        return Entry(entry.kind, entry.ref, failure=Failure(413, f\"{what} {over}\")) if over else entry\n",
        "        return entry\n",
    ),
    Defect(
        "argument-unmeasured", "a call is sent whatever the size of its argument", "core/topics/sizes.py",
        "*_texts(command.headers)) + AROUND_BYTES\n        if size > SMALL_BYTES:\n            self._check(",
        "*_texts(command.headers)) + AROUND_BYTES\n        if size < 0:\n            self._check(",
    ),
    Defect(
        "forward-unmeasured", "a record is forwarded whatever its size", "core/lifecycle/outward.py",
        "        over = scope.sizes.why_unsent(scope.commands_topic, encoded)\n", '        over = ""\n',
    ),
    Defect(
        "letter-unmeasured", "a dead letter is written whatever its size", "core/topics/sizes.py",
        "        if self._fits(letter):\n            return letter\n", "        if letter:\n            return letter\n",
    ),
    Defect(
        "entry-unmeasured", "an invocation waits whatever the size of what started it", "core/topics/sizes.py",
        "        if kept_for_certain(held):\n", "        if held >= 0:\n",
    ),
    Defect(
        "one-id-for-two", "a record of a topic that was made again has the id of the old one at its offset",
        "core/running/invocation.py",
        'topic_id = told or self.shard.topic_ids.get(origin.topic, "")', 'topic_id = ""',
    ),
    Defect(
        "store-error-handlers", "a store that fails under a handler is that handler's failure", "core/shard.py",
        "        self.store_error = self.store_error or error\n        return StoreLost", "        return StoreLost",
    ),
    Defect(
        "store-error-committed", "an epoch is committed though a store has failed under it", "worker/engine/engine.py",
        "        if due and self._stores_are_sound():\n", "        if due:\n",
    ),
    Defect(
        "damaged-store-kept", "a store that cannot be used is opened again and again", "worker/restore/ownership.py",
        "    return error if error is not None and error.kind == \"unusable\" else None\n", "    return None\n",
    ),
    Defect(
        "limit-forgotten", "a topic that cannot be looked up takes records of any size, whatever it took before",
        "core/topics/targets.py",
        "            return self._limits.get(topic, self._producer_bytes)\n", "            return self._producer_bytes\n",
    ),
    Defect(
        "denied-is-poison", "an epoch that is refused for a missing right is taken for one with a bad record in it",
        "worker/engine/engine.py",
        "        if event.poison:\n", "        if event.poison or event.refusal is not None:\n",
    ),
    Defect(
        "denied-counts", "an attempt that meets a topic without the right to write to it counts as failed",
        "core/lifecycle/failing.py",
        "        if isinstance(error, Unavailable):\n            self.postponed", "        if False:\n            self.postponed",
    ),
    Defect(
        "replay-lost", "a replay that goes on after a restart leaves out a record", "worker/engine/replaying.py",
        "part.topic_id, part.next, part.stop)", "part.topic_id, part.next + 2 * (part.next > part.first), part.stop)",
    ),
    Defect(
        "replay-unmoved", "how far a replay is does not share the fate of what it has delivered", "worker/engine/replaying.py",
        "        machine.replays.put(shard, part)\n        return done\n", "        return done\n",
    ),
    Defect(
        "replay-disordered", "a batch of a replay is delivered from its end", "worker/engine/replaying.py",
        "for message in batch.messages[course.at : course.at + most]:",
        "for message in reversed(batch.messages[course.at : course.at + most]):",
    ),
    Defect(
        "replay-misnamed", "a record is delivered under the id of another replay", "core/lifecycle/replays.py",
        "Again(record, part.id if", "Again(record, next(iter(shard.replays.values())).id if",
    ),
    Defect(
        "replay-begun-again", "a repeated order begins a replay anew", "core/lifecycle/replays.py",
        "        if key in shard.replays:\n            return\n", "",
    ),
    Defect(
        "replay-untallied", "what a replay's invocations came to is that of one epoch alone", "core/lifecycle/replays.py",
        "            setattr(tally, what, getattr(tally, what) + number)\n", "            setattr(tally, what, number)\n",
    ),
    Defect(
        "kill-stays", "what a killed invocation waits for is not killed", "core/lifecycle/killing.py",
        'is killed, too."""\n        self.tell_callees(shard, live, "kill")\n', 'is killed, too."""\n',
    ),
    Defect(
        "killed-is-written", "what was killed in line is written there when the epoch closes", "core/lifecycle/keeping.py",
        "        if isinstance(queued, Live) and queued.closed:\n            return\n", "",
    ),
    Defect(
        "resumed-too-early", "a delayed start that was paused begins when it is resumed", "core/lifecycle/pausing.py",
        "            stored.due_ms = due_ms if due_ms > self._scope.now_ms else 0\n", "            stored.due_ms = 0\n",
    ),
    Defect(
        "paused-begins", "what is paused in line begins when its turn has come", "core/lifecycle/starts.py",
        "        if stored.unbegun:  #", "        if not stored:  #",
    ),
    Defect(
        "restart-takes-the-old", "what comes of a step that ran before a restart is taken for that of the one after it",
        "core/lifecycle/restarts.py",
        "stored.created_ms = max(int(self._scope.now_ms), stored.created_ms + 1)", "stored.created_ms = stored.created_ms",
    ),
    Defect(
        "restart-waits-for-the-old", "a step that ran before a restart is waited for after it", "core/lifecycle/restarts.py",
        "            del shard.running[place]\n", "            pass\n",
    ),
    Defect(
        "restart-unanswered", "a restart from an entry on forgets all results", "core/lifecycle/restarts.py",
        "for entry in live.journal.completions if _behind(entry) < first]",
        "for entry in live.journal.completions if _behind(entry) < 0]",
    ),
    Defect(
        "restart-doubles", "the old one goes on beside the new one", "core/lifecycle/restarts.py",
        "        if stored.status not in ENDED:\n            self._killing.replace",
        "        if not stored:\n            self._killing.replace",
    ),
    Defect(
        "completion-before-ready", "a completion is delivered while something is ready to run", "core/running/turning.py",
        "            turns.drain()\n", "            if not self._deliver(live):\n                turns.drain()\n",
    ),
    Defect(
        "sets-unordered", "asyncio's sets have the order of addresses", "core/durable/futures.py",
        '    asyncio.tasks.__dict__["set"] = set_in_order\n', "    return\n",
    ),
    Defect(
        "cancelled-timer-left", "the timer of a sleep that was cancelled stays", "core/lifecycle/keeping.py",
        "        if op.timer is not None and shard.read(op.timer) is not None:\n            shard.put(op.timer, None)\n",
        "        if False:\n            shard.put(op.timer, None)\n",
    ),
    Defect(
        "cancel-stays", "the calls that a cancelled invocation waits for are not cancelled", "core/lifecycle/cancelling.py",
        '        self._killing.tell_callees(shard, live, "cancel")\n', "",
    ),
    Defect(
        "cancel-begins", "what has not begun when it is cancelled begins", "core/lifecycle/cancelling.py",
        "    return stored.status in UNBEGUN or", "    return",
    ),
    Defect(
        "kept-unwritten", "a journal that stays lacks what the last epoch did", "core/lifecycle/ending.py",
        "        if kept:\n            self._keeping.flush(live)\n", "",
    ),
    Defect(
        "kept-for-ever", "a journal stays though its completion has gone", "core/lifecycle/retention.py",
        "            shard.put(chunk, None)\n", "            pass\n",
    ),
)
