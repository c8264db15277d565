"""Whether code uses the library as it is: names that exist, calls that fit their signatures.

The code is not run. Types are followed as far as annotations tell: through assignments, calls,
attributes and loops. What is not known is passed over.
"""

from __future__ import annotations

import ast
import dataclasses
import importlib
import inspect
import typing
from collections.abc import Iterable
from typing import Any

from tfvlad import FeatureSettings, VideoSettings

OURS = ("tfvlad", "pipelines", "tuning", "export")
# What stands for `**changes`: settings by name.
SETTINGS = {
    field.name for kind in (VideoSettings, FeatureSettings) for field in dataclasses.fields(kind)
}


class Instance(typing.NamedTuple):
    """An object of the given type, which may have parameters (`list[int]`)."""

    type: Any

    @property
    def cls(self) -> type | None:
        kind = typing.get_origin(self.type) or self.type
        return kind if isinstance(kind, type) else None


class Checker(ast.NodeVisitor):
    """Follows the names of a page through its blocks.

    Attributes:
        names: what is known of names: objects that are there, and `Instance`s.
        num_calls: of the library, that were checked.
    """

    def __init__(self, **names: Any):
        self.names = names
        self.num_calls = 0

    def check(self, code: str) -> None:
        """Check a block.

        Raises:
            AttributeError: the library has no such name.
            TypeError: a call does not fit.
        """
        self.visit(ast.parse(code))

    def visit_Import(self, node: ast.Import) -> None:
        for alias in node.names:
            module = importlib.import_module(alias.name)
            top = importlib.import_module(alias.name.partition(".")[0])
            self.names[alias.asname or top.__name__] = module if alias.asname else top

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        module = importlib.import_module(node.module)
        for alias in node.names:
            self.names[alias.asname or alias.name] = getattr(module, alias.name)

    def visit_Assign(self, node: ast.Assign) -> None:
        self._bind(node.targets[0], self.value(node.value))

    def visit_For(self, node: ast.For) -> None:
        self._bind(node.target, _item(self.value(node.iter)))
        for statement in node.body:
            self.visit(statement)

    def visit_Expr(self, node: ast.Expr) -> None:
        self.value(node.value)

    def value(self, node: ast.expr) -> Any:
        """The object that an expression is, an `Instance`, or None where it is not known."""
        if isinstance(node, ast.Name):
            return self.names.get(node.id)
        if isinstance(node, ast.Attribute):
            return _attribute(self.value(node.value), node.attr)
        if isinstance(node, ast.Subscript):
            return _item(self.value(node.value))
        if isinstance(node, ast.Call):
            return self._call(node)
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.expr):
                self.value(child)
        return None

    def _call(self, node: ast.Call) -> Any:
        for argument in (*node.args, *(keyword.value for keyword in node.keywords)):
            self.value(argument)
        function = self.value(node.func)
        if not (callable(function) and (function.__module__ or "").split(".")[0] in OURS):
            return None
        self.num_calls += 1
        is_partial = any(isinstance(argument, ast.Starred) for argument in node.args)
        is_partial |= any(keyword.arg is None for keyword in node.keywords)
        signature = inspect.signature(function)
        keywords = {keyword.arg: None for keyword in node.keywords if keyword.arg}
        arguments = [a for a in node.args if not isinstance(a, ast.Starred)]
        try:
            (signature.bind_partial if is_partial else signature.bind)(*arguments, **keywords)
        except TypeError as error:
            raise TypeError(f"{ast.unparse(node)}: {error}") from None
        if "changes" in signature.parameters:
            unknown = set(keywords) - set(signature.parameters) - SETTINGS
            if unknown:
                raise TypeError(f"{ast.unparse(node)}: no setting is named {', '.join(unknown)}")
        return Instance(function) if inspect.isclass(function) else _returned(function)

    def _bind(self, target: ast.expr, value: Any) -> None:
        if isinstance(target, ast.Name):
            self.names[target.id] = value


def _returned(function: Any) -> Instance | None:
    function = getattr(function, "__func__", function)
    try:
        return Instance(typing.get_type_hints(function)["return"])
    except (KeyError, NameError):
        return None


def _attribute(value: Any, name: str) -> Any:
    if value is None:
        return None
    if not isinstance(value, Instance):
        return getattr(value, name)
    if value.cls is None or value.cls.__module__.split(".")[0] not in OURS:
        return None
    found = inspect.getattr_static(value.cls, name, None)
    if isinstance(found, property):
        return _returned(found.fget)
    if hasattr(found, "func"):  # a cached property
        return _returned(found.func)
    if found is not None and callable(found):
        return found.__get__(object())  # without `self`
    hints = typing.get_type_hints(value.cls)
    if name in hints:
        return Instance(hints[name])
    if f"self.{name} = " in inspect.getsource(value.cls):
        return None
    raise AttributeError(f"{value.cls.__name__} has no attribute {name!r}")


def _item(value: Any) -> Instance | None:
    """What a sequence or an iterator of this type gives."""
    if not isinstance(value, Instance) or value.cls is None:
        return None
    arguments = typing.get_args(value.type)
    if arguments and issubclass(value.cls, Iterable):
        return Instance(arguments[0])
    for base in getattr(value.cls, "__orig_bases__", ()):
        if typing.get_args(base):
            return Instance(typing.get_args(base)[0])
    return None
