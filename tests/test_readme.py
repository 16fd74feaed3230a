"""The README's program runs as it is printed."""

import re
from pathlib import Path
from types import ModuleType

from odradek import App
from odradek_runtime.log.embedded import EmbeddedLog
from tests.engine.harness import Rig

README = Path(__file__).parents[1] / "README.md"


def test_the_program_of_the_first_screen_runs() -> None:
    found = re.search(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
    assert found is not None
    module = ModuleType("shop")
    exec(compile(found.group(1), "README.md", "exec"), module.__dict__)  # noqa: S102  (our own text)
    app = module.__dict__["app"]
    assert isinstance(app, App)
    rig = Rig(EmbeddedLog(None), None, 10_000)
    try:
        rig.start(app)
        rig.publish("orders", ("bob", {"id": "1", "amount": 40}), ("bob", {"id": "2", "amount": 2}))
        rig.until(lambda: rig.values("invoices") == [{"id": "inv-1"}, {"id": "inv-2"}])
        assert rig.call("customer/total", key="bob") == 42
    finally:
        rig.close()
