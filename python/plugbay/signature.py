"""Looking at callables: are they async, what can they be called with, what is their name."""

from __future__ import annotations

import enum
import functools
import inspect
import typing
from collections.abc import Callable
from typing import Any


def bare(fn: Any) -> Any:
    """What is called in the end, below partials and bound methods."""
    while True:
        if isinstance(fn, functools.partial):
            fn = fn.func
        elif inspect.ismethod(fn):
            fn = fn.__func__
        else:
            return fn


def is_async(fn: Callable[..., Any]) -> bool:
    """Whether calling ``fn`` gives a coroutine: an ``async def``, or a partial, a method or an object made of one."""
    fn = bare(fn)
    if inspect.iscoroutinefunction(fn):
        return True
    return callable(fn) and not inspect.isclass(fn) and inspect.iscoroutinefunction(bare(type(fn).__call__))


def takes(fn: Callable[..., Any], count: int) -> bool:
    """Whether ``fn`` can be called with ``count`` positional arguments. True for a builtin that does not say."""
    try:
        inspect.signature(fn).bind(*[None] * count)
    except TypeError:
        return False
    except ValueError:
        return True
    return True


def has_second_positional(fn: Callable[..., Any]) -> bool:
    """Whether ``fn`` has a second positional parameter of its own, as ``handler(args, ctx)`` has."""
    try:
        parameters = inspect.signature(fn).parameters.values()
    except (TypeError, ValueError):
        return False
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return sum(parameter.kind in positional for parameter in parameters) >= 2


def name_of(fn: Callable[..., Any]) -> str | None:
    """The name that ``fn`` was defined with, or ``None`` for a lambda or an object without one."""
    name = getattr(bare(fn), "__name__", None)
    return name if isinstance(name, str) and name.isidentifier() else None


def shown(fn: object) -> str:
    """A short text that names ``fn`` in a message, without its address or its content."""
    name = getattr(bare(fn), "__qualname__", None)
    return name if isinstance(name, str) else f"an object of type {type(fn).__qualname__}"


def choices_of(fn: Callable[..., Any]) -> dict[str, list[str]]:
    """The texts that each parameter may be, where its annotation lists them: a ``Literal`` or an ``Enum``."""
    try:
        hints = typing.get_type_hints(bare(fn))
    except (NameError, TypeError):
        return {}
    return {name: _choices(hint) for name, hint in hints.items() if name != "return"}


def _choices(hint: Any) -> list[str]:
    if isinstance(hint, type) and issubclass(hint, enum.Enum):
        return [str(member.value) for member in hint]
    if typing.get_origin(hint) is typing.Literal:
        return [choice for choice in typing.get_args(hint) if isinstance(choice, str)]
    return [choice for part in typing.get_args(hint) for choice in _choices(part)]
