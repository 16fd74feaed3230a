"""Awakeables: whoever has the id gives the value, once, before or after it is awaited; nobody else's command does."""

from dataclasses import dataclass

import pytest

from odradek import App, Context, TerminalError
from odradek_runtime.core.records.awakeable_ids import AwakeableIds, parsed
from odradek_runtime.core.records.formats import COMMAND, Command
from odradek_runtime.core.records.request import Failure, Reply, Settle
from odradek_runtime.log.port import Output
from odradek_runtime.routing import id_hash
from tests.engine.harness import Asked, Rig


@dataclass
class Paid:
    order: str
    amount: int


def pay(shards: int = 3) -> App:
    """Waits for a payment, whose id it publishes; the id may be answered by a handler, too."""
    app = App("pay", shards=shards)
    ids = app.topic("ids", value=str)

    @app.handler
    async def wait(ctx: Context, order: str) -> Paid:
        hook = ctx.awakeable(Paid)
        ctx.publish(ids, hook.id, key=order)
        return await hook

    @app.handler
    async def told(ctx: Context, order: str) -> list[str]:
        hook, heard = ctx.awakeable(Paid), list[str]()
        ctx.publish(ids, hook.id, key=order)
        for _ in range(2):
            try:
                heard.append((await hook).order)
            except TerminalError as error:
                heard.append(f"{error.code} {error.message} {sorted(error.metadata.items())}")
        return heard

    @app.handler
    async def resolve(ctx: Context, given: tuple[str, int]) -> None:
        ctx.resolve(given[0], Paid("by a handler", given[1]))

    @app.handler
    async def reject(ctx: Context, id_: str) -> None:
        ctx.reject(id_, "by a handler", code=418)

    @app.handler
    async def at_once(ctx: Context) -> list[int]:
        first, second = ctx.awakeable(int), ctx.awakeable(int)
        ctx.resolve(second.id, 2)
        ctx.resolve(first.id, 1)
        ctx.resolve(first.id, 7)
        await ctx.sleep(0.01)
        return [await first, await second]

    @app.handler
    async def bad(ctx: Context, id_: str) -> str:
        try:
            ctx.resolve(id_, 1)
        except TerminalError as error:
            return f"{error.code} {error.message}"
        return "given"

    return app


def id_of(rig: Rig, number: int = 0) -> str:
    """The awakeable that was published as the so-and-so-manieth."""
    rig.until(lambda: len(rig.records("ids")) > number)
    return str((rig.records("ids")[number].value() or b"").decode())


def settle(rig: Rig, id_: str, value: bytes | None = b'{"order": "o", "amount": 5}', failure: Failure | None = None) -> Reply:
    """As the ingress would."""
    meant = parsed(id_)
    request = Settle(meant.invocation_id, meant.ref, meant.seal, value, failure)
    asked = Asked(meant.invocation_id, request=request)
    rig.worker.ask(request, asked.take)
    return asked.reply()


def write(rig: Rig, command: Command) -> None:
    """To the commands topic, as another app would."""
    publisher = rig.log.publisher("another-app")
    shards = rig.partitions("pay.commands")
    publisher.publish([Output("pay.commands", id_hash(command.id) % shards, None, COMMAND.encode(command))], 1)
    publisher.close()


@pytest.mark.parametrize("restart", ["no", "stop", "crash"])
@pytest.mark.parametrize("shards", [1, 3])
def test_a_value_from_outside(rig: Rig, restart: str, shards: int) -> None:
    app = pay(shards)
    rig.start(app)
    asked = rig.ask("pay/wait", "o")
    id_ = id_of(rig)
    if restart != "no":
        rig.restart(app, crash=restart == "crash")
        asked = rig.attach(asked.id)
    assert settle(rig, id_).status == "settled"
    assert asked.value() == {"order": "o", "amount": 5}
    assert settle(rig, id_).status == "nobody_waits", "it has ended"
    rig.settled(app)
    assert not [key for key in rig.journal(app) if key[:1] in b"jt" and key[:1] != b"t"]


def test_an_error_from_outside_and_the_first_is_final(rig: Rig) -> None:
    rig.start(pay())
    asked = rig.ask("pay/told", "o")
    assert settle(rig, id_of(rig), None, Failure(409, "no money", {"card": "x"})).status == "settled"
    error = "409 no money [('card', 'x')]"
    assert asked.value() == [error, error], "it may be awaited again"


def test_the_second_value_is_told_that_it_is_the_second(rig: Rig) -> None:
    app = App("slow", shards=1)
    ids = app.topic("ids", value=str)

    @app.handler
    async def wait(ctx: Context) -> int:
        hook = ctx.awakeable(int)
        ctx.publish(ids, hook.id, key="k")
        await ctx.sleep(60)
        return await hook

    rig.start(app)
    asked = rig.ask("slow/wait")
    id_ = id_of(rig)
    assert settle(rig, id_, b"1").status == "settled"
    assert settle(rig, id_, b"2").status == "settled_before"
    rig.restart(app, crash=True)
    assert settle(rig, id_, b"3").status == "settled_before"
    asked = rig.attach(asked.id)
    rig.later(61)
    assert asked.value() == 1


def test_handlers_resolve_and_reject(rig: Rig) -> None:
    app = pay()
    rig.start(app)
    one, other = rig.ask("pay/wait", "o"), None
    rig.call("pay/resolve", [id_of(rig), 9])
    assert one.value() == {"order": "by a handler", "amount": 9}
    other = rig.ask("pay/told", "o")
    rig.call("pay/reject", id_of(rig, 1))
    assert other.value()[0] == "418 by a handler []"
    rig.call("pay/resolve", [id_of(rig, 1), 9])
    rig.settled(app)
    assert rig.dead_letters(app) == [], "who comes too late is no stranger"


def test_resolved_before_it_is_awaited_and_by_itself(rig: Rig) -> None:
    rig.start(pay())
    assert rig.call("pay/at_once") == [1, 2]


def test_what_is_no_awakeable_is_refused_where_it_is_given(rig: Rig) -> None:
    rig.start(pay(), bootstrap_servers="the embedded log plays Kafka")
    far = AwakeableIds("pay", []).of(rig.ask("pay/at_once").id, 2**31 - 1)
    assert rig.call("pay/bad", far) == "given"
    beyond = AwakeableIds("pay", []).of(rig.ask("pay/at_once").id, 2**31)
    assert rig.call("pay/bad", beyond).startswith("400 ")
    assert rig.call("pay/bad", "inv_a").startswith("400 'inv_a' is not the id of an awakeable")
    nowhere = AwakeableIds("nowhere", []).of(rig.ask("pay/at_once").id, 0)
    assert rig.call("pay/bad", nowhere).startswith("404 there is no app 'nowhere'")
    assert rig.call("pay/bad", AwakeableIds("pay", []).of(rig.ask("pay/at_once").id, 77)) == "given"


def test_a_value_that_does_not_fit_is_an_error_where_it_is_awaited(rig: Rig) -> None:
    rig.start(pay())
    asked = rig.ask("pay/told", "o")
    settle(rig, id_of(rig), b'{"order": 5}')
    assert asked.value()[0].startswith("500 the recorded result does not fit its type: $.order")


def test_an_awakeable_of_another_app(rig: Rig) -> None:
    app, other = pay(), App("gate", shards=2)

    @other.handler
    async def opened(ctx: Context, id_: str) -> None:
        ctx.resolve(id_, Paid("from the gate", 3))

    rig.start(other, bootstrap_servers="the embedded log plays Kafka")
    rig.start(app)
    asked = rig.ask("pay/wait", "o")
    id_ = id_of(rig)
    rig.workers.reverse()  # requests go to the gate now
    rig.call("gate/opened", id_)
    assert asked.value() == {"order": "from the gate", "amount": 3}


def test_a_seal_keeps_what_was_guessed_out(rig: Rig) -> None:
    app = pay(1)
    rig.start(app, awakeable_secret="new old")  # noqa: S106
    asked = rig.ask("pay/wait", "o")
    id_ = id_of(rig)
    meant = parsed(id_)
    assert len(meant.seal) == 10
    bare = AwakeableIds("pay", []).of(meant.invocation_id, meant.ref)
    assert settle(rig, bare).status == "nobody_waits"
    assert settle(rig, AwakeableIds("pay", ["guess"]).of(meant.invocation_id, meant.ref)).status == "nobody_waits"
    write(rig, Command("awakeable", meant.invocation_id, ref=meant.ref, payload=b"{}"))
    write(rig, Command("complete", meant.invocation_id, ref=meant.ref, payload=b"{}"))
    rig.until(lambda: len(rig.dead_letters(app)) == 2)
    assert [letter["odradek-field"] for letter in rig.dead_letters(app)] == ["key", "ref"]
    assert settle(rig, AwakeableIds("pay", ["old"]).of(meant.invocation_id, meant.ref)).status == "settled"
    assert asked.value() == {"order": "o", "amount": 5}


def test_a_command_for_what_is_none_is_a_dead_letter(rig: Rig) -> None:
    app = pay(1)
    rig.start(app)
    rig.ask("pay/wait", "o", wait=False)
    meant = parsed(id_of(rig))
    write(rig, Command("awakeable", meant.invocation_id, ref=1, payload=b"{}"))
    write(rig, Command("awakeable", meant.invocation_id, ref=99, payload=b"{}"))
    write(rig, Command("awakeable", meant.invocation_id, key=b"seal", ref=meant.ref, payload=b"{}"))
    write(rig, Command("awakeable", meant.invocation_id, ref=meant.ref, payload=b"{}", failure=Failure(500, "both")))
    rig.until(lambda: len(rig.dead_letters(app)) == 4)
    assert [letter["odradek-field"] for letter in rig.dead_letters(app)] == ["ref", "ref", "key", "failure"]
    assert settle(rig, id_of(rig)).status == "settled"


def test_thirty_awaited_while_their_worker_dies(rig: Rig) -> None:
    app = pay()
    rig.start(app)
    asked = [rig.ask("pay/wait", str(number)) for number in range(30)]
    rig.until(lambda: len(rig.records("ids")) == 30)
    ids = {(m.key() or b"").decode(): (m.value() or b"").decode() for m in rig.records("ids")}
    for number in range(15):
        assert settle(rig, ids[str(number)], b'{"order": "%d", "amount": 1}' % number).status == "settled"
    rig.restart(app, crash=True)
    asked = [rig.attach(each.id) for each in asked]
    for number in range(15, 30):
        assert settle(rig, ids[str(number)], b'{"order": "%d", "amount": 1}' % number).status == "settled"
    assert [each.value()["order"] for each in asked] == [str(number) for number in range(30)]
