"""State: what a handler gets, sets, clears and names of it, and what the changelog shows."""


from odradek import App, ObjectContext, State
from tests.engine.harness import Rig
from tests.engine.shop import shop


def test_only_the_last_value_of_a_key_in_an_epoch_reaches_the_changelog(rig: Rig) -> None:
    app = shop(1)
    rig.start(app, epoch_linger_s=0.3)
    rig.publish("orders", *[("bob", {"id": str(n), "amount": 1}) for n in range(100)])
    rig.until(lambda: len(rig.records("invoices")) == 100)
    changes = [m.value() for m in rig.records("shop.state")]
    assert len(changes) < 20
    assert changes[-1] == b"100"


def test_the_state_topic_is_readable_by_anybody(rig: Rig) -> None:
    app = shop()
    rig.start(app)
    rig.publish("orders", ("a/b%", {"id": "1", "amount": 7}))
    rig.until(lambda: rig.records("shop.state"))
    (record,) = rig.records("shop.state")
    assert (record.key(), record.value()) == (b"customer/a%2Fb%25/spent", b"7")
    assert [name for name, _ in record.headers() or ()] == ["odradek"]


def test_state_words(rig: Rig) -> None:
    app = App("words", shards=1)
    thing, tags = app.object("thing"), State("tags", list[str], default=list)
    note = State("note", str)

    @thing.handler
    async def tag(ctx: ObjectContext, text: str) -> list[str]:
        kept = ctx.get(tags)
        kept.append(text)
        assert text not in ctx.get(tags), "get gives a fresh value"
        ctx.set(tags, kept)
        ctx.set("a/b%\n", 1)
        ctx.set(note, text)
        await ctx.sleep(0.02)
        assert ctx.names() == ["a/b%\n", "note", "tags"]
        return ctx.get(tags)

    @thing.handler
    async def forget(ctx: ObjectContext, names: list[str]) -> list[str]:
        before = list(ctx.names())
        await ctx.sleep(0.02)
        ctx.clear(*names)
        await ctx.sleep(0.02)
        return [*before, "-", *ctx.names()]

    @thing.handler
    async def unset(ctx: ObjectContext) -> bool:
        ctx.set(note, None)
        return ctx.get(note) is None and "note" not in ctx.names()

    rig.start(app)
    assert rig.call("thing/tag", "x", key="one") == ["x"]
    assert rig.call("thing/tag", "y", key="one") == ["x", "y"]
    assert rig.call("thing/tag", "z", key="onet") == ["z"], "a key that begins like another is another"
    assert rig.call("thing/unset", key="one") is True
    assert rig.call("thing/forget", ["tags"], key="one") == ["a/b%\n", "tags", "-", "a/b%\n"]
    assert rig.call("thing/forget", [], key="one") == ["a/b%\n", "-"]
    assert rig.call("thing/forget", [], key="onet") == ["a/b%\n", "note", "tags", "-"]
    assert rig.changelog("words.state") == {}


def test_keys_that_are_no_text(rig: Rig) -> None:
    app = shop()
    rig.start(app)
    rig.publish("orders", (b"\xff\x00/", {"id": "1", "amount": 7}), (b"\xff\x00/", {"id": "2", "amount": 5}))
    rig.until(lambda: len(rig.records("invoices")) == 2)
    assert [m.key() for m in rig.records("invoices")] == [b"\xff\x00/"] * 2
    assert rig.changelog("shop.state")[b"customer/\xff\x00%2F/spent"] == b"12"
