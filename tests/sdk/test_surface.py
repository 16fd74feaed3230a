"""What `import odradek` gives, and that the examples in its docstrings are true."""

import doctest
import importlib
import pkgutil

import pytest

import odradek

NAMES = (
    "App Service Object Workflow Topic Record State Name Context SharedContext ObjectContext WorkflowContext Future Call "
    "Awakeable Promise step current idempotency_key Client RetryPolicy TerminalError RetryableError"
)
MODULES = sorted(module.name for module in pkgutil.iter_modules(odradek.__path__, "odradek."))


def test_the_names_are_those_of_the_design() -> None:
    assert sorted(odradek.__all__) == sorted(NAMES.split())
    assert len(odradek.__all__) <= 25
    assert all(getattr(odradek, name).__doc__ for name in odradek.__all__)


@pytest.mark.parametrize("name", MODULES)
def test_the_examples_in_docstrings_are_true(name: str) -> None:
    assert doctest.testmod(importlib.import_module(name)).failed == 0


def test_there_are_examples() -> None:
    finder = doctest.DocTestFinder(exclude_empty=True)
    examples = [test for name in MODULES for test in finder.find(importlib.import_module(name))]
    assert sum(len(test.examples) for test in examples) > 20
