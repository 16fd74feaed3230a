"""Finds the `App` behind `module:app`; every way in which that fails has its own message."""

from __future__ import annotations

import importlib
import importlib.util
import sys
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any

from odradek import App, Topic
from odradek_runtime.cli.errors import USAGE, CommandError, near
from odradek_runtime.cli.path import import_from_here

if TYPE_CHECKING:
    from types import ModuleType


def load_app(reference: str) -> App:
    """Import `module:app` from the current folder or the installed packages.

    Raises CommandError: the reference is malformed, the module is absent, its import fails (with the user's own part of
    the traceback), it has no such attribute, or the attribute is not an App.
    """
    module_name, colon, attribute = reference.partition(":")
    if module_name.endswith(".py") or "/" in module_name:
        dotted = module_name.removesuffix(".py").strip("./").replace("/", ".")
        raise CommandError(f"{reference!r} is a path, not a module", f"write it as {dotted}:{attribute or 'app'}", code=USAGE)
    import_from_here(add=True)
    module = _import(module_name)
    found = getattr(module, attribute if colon else "app", None)
    if isinstance(found, App):
        return found
    apps = [name for name, value in vars(module).items() if isinstance(value, App)]
    wanted = attribute if colon else "app"
    if found is None:
        if taken := _taken_name(module_name):
            raise CommandError(f"module {module_name} has no attribute {wanted!r}", taken, code=USAGE)
        hint = f"write {module_name}:{apps[0]}" if apps else f"define it there: {wanted} = App({wanted!r})"
        raise CommandError(f"module {module_name} has no attribute {wanted!r}", hint, code=USAGE)
    hint = f"write {module_name}:{apps[0]}" if apps else "it must be an odradek.App"
    raise CommandError(f"{reference} is a {type(found).__name__}, not an App", hint, code=USAGE)


def load_topics(reference: str) -> dict[str, Topic[Any, Any]]:
    """The topics that an app declares: those it reads, and those in variables of its module. Raises as `load_app`."""
    app = load_app(reference)
    variables = vars(sys.modules[reference.partition(":")[0]]).values()
    declared: list[Topic[Any, Any]] = [value for value in variables if isinstance(value, Topic)]
    declared += [subscription.topic for subscription in app.subscriptions()]
    return {topic.name: topic for topic in declared}


def source_folders(reference: str) -> list[Path]:
    """The folders whose .py files make up the app: that of its top-level package or module, for the reload to watch."""
    top = reference.partition(":")[0].partition(".")[0]
    here = Path.cwd()
    if (here / top).is_dir():
        return [here / top]
    if (here / f"{top}.py").is_file():
        return [here]
    spec = importlib.util.find_spec(top)
    if spec is not None and spec.submodule_search_locations:
        return [Path(place) for place in spec.submodule_search_locations]
    return [Path(spec.origin).parent] if spec is not None and spec.origin else [here]


def _import(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name and (name == error.name or name.startswith(error.name + ".")):
            files = [path.stem for path in sorted(Path.cwd().glob("*.py"))]
            hint = near(name.partition(".")[0], files) if files else ""
            raise CommandError(
                f"no module {error.name!r} in {Path.cwd()} or in the installed packages",
                hint or "run this in the folder that holds it, or install its package",
                code=USAGE,
            ) from None
        raise CommandError(f"importing {name} failed:\n{_own_traceback(error)}", code=USAGE) from error
    except (Exception, SystemExit) as error:
        taken = _taken_name(error.name or "") if isinstance(error, ImportError) else ""
        raise CommandError(f"importing {name} failed:\n{_own_traceback(error)}", taken, code=USAGE) from error


def _taken_name(module: str) -> str:
    """What to do when a module of the user's has the name of one of Python's own; else empty."""
    top = module.partition(".")[0]
    if top not in sys.stdlib_module_names:
        return ""
    mine = next((one for one in (Path(f"{top}.py"), Path(top)) if one.exists()), None)
    return f"{mine} has the name of a module of Python's own, which goes before it: rename it" if mine is not None else ""


def _own_traceback(error: BaseException) -> str:
    """The traceback without the frames of this file and of importlib: what is left is the user's own code."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if frame.filename != __file__ and "importlib" not in frame.filename]
    lines = traceback.format_list(own) + traceback.format_exception_only(error)
    return "".join(lines).rstrip()
