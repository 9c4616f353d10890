"""What the source of a Cell proves about how it uses its children.

A recorded run shows where a tensor went this time; the source shows that it goes nowhere else, at any time.
"""

from __future__ import annotations

import ast
import functools
import inspect
import textwrap
from collections.abc import Iterator

from mindspore import nn


class SourceError(Exception):
    """The source of a Cell's class cannot be had, e.g. because it was typed into an interpreter."""


def methods(cell: nn.Cell) -> dict[str, ast.FunctionDef]:
    """The methods of the Cell's class and of its bases up to ``nn.Cell``, without ``__init__``.

    Raises:
        SourceError: no source.
    """
    return _methods_of(type(cell))


@functools.cache  # asked for each Cell of a class, and to find a class in a long file takes its time
def _methods_of(kind: type[nn.Cell]) -> dict[str, ast.FunctionDef]:
    found: dict[str, ast.FunctionDef] = {}
    for owner in kind.__mro__:
        if owner is nn.Cell:
            break
        try:
            body = ast.parse(textwrap.dedent(inspect.getsource(owner))).body[0].body
        except (OSError, TypeError, SyntaxError) as error:
            raise SourceError(f"the source of {owner.__name__} is not available") from error
        for node in body:
            if isinstance(node, ast.FunctionDef) and node.name != "__init__":
                found.setdefault(node.name, node)
    return found


def why_not_named_once(parent: nn.Cell, key: str) -> str | None:
    """Why ``self.<key>`` is not proven to stand in one place of the Cell's methods, or None."""
    try:
        count = len(_uses(methods(parent), key))
    except SourceError as error:
        return str(error)
    return None if count == 1 else _named(parent, key, count)


def why_not_only_reader(parent: nn.Cell, producer: str, consumer: str) -> str | None:
    """Why ``self.<producer>(...)`` is not proven to have ``self.<consumer>(...)`` as its only reader, or None.

    Accepted are ``self.b(self.a(x))`` and ``y = self.a(x)`` with one later read of ``y``, as ``self.b(y)``, in the same
    block of statements.
    """
    try:
        functions = methods(parent)
    except SourceError as error:
        return str(error)
    uses = _uses(functions, producer)
    if len(uses) != 1:
        return _named(parent, producer, len(uses))
    function, attribute = uses[0]
    parents = {child: node for node in ast.walk(function) for child in ast.iter_child_nodes(node)}
    call = parents[attribute]
    if not (isinstance(call, ast.Call) and call.func is attribute):
        return f"{type(parent).__name__} uses self.{producer} other than by calling it"
    reader = parents[call]
    if _is_call_with_only(reader, consumer, call):
        return None
    if isinstance(reader, ast.Assign) and len(reader.targets) == 1 and isinstance(reader.targets[0], ast.Name):
        return _why_not_read_once(function, parents, reader, producer, consumer)
    return f"the output of self.{producer} does not go straight into self.{consumer}"


def _uses(functions: dict[str, ast.FunctionDef], key: str) -> list[tuple[ast.FunctionDef, ast.Attribute]]:
    return [
        (function, node)
        for function in functions.values()
        for node in ast.walk(function)
        if is_self_attribute(node, key)
    ]


def _named(parent: nn.Cell, key: str, count: int) -> str:
    return f"{type(parent).__name__} names self.{key} {count} times in its methods, expected once"


def _why_not_read_once(
    function: ast.FunctionDef, parents: dict[ast.AST, ast.AST], assignment: ast.Assign, producer: str, consumer: str
) -> str | None:
    name = assignment.targets[0].id
    block = _block(parents[assignment], assignment)
    start = block.index(assignment)
    found: list[ast.Name] = []
    rebound = False
    for statement in block[start + 1 :]:
        found += reads(statement, name)
        if isinstance(statement, ast.Assign) and any(
            isinstance(target, ast.Name) and target.id == name for target in statement.targets
        ):
            rebound = True
            break
    if not rebound and parents[assignment] is not function:
        inside = {read for statement in block for read in reads(statement, name)}
        found += [read for read in reads(function, name) if read not in inside]
    if len(found) == 1 and _is_call_with_only(parents[found[0]], consumer, found[0]):
        return None
    return f"{name}, the output of self.{producer}, is read {len(found)} times, expected once, by self.{consumer}"


def attributes_branched_on(cell: nn.Cell) -> list[str]:
    """Attributes of ``self`` that decide which code runs; guards that only raise do not count.

    Raises:
        SourceError: no source.
    """
    names: set[str] = set()
    for function in methods(cell).values():
        for node in ast.walk(function):
            if isinstance(node, ast.If) and all(isinstance(s, ast.Raise) for s in [*node.body, *node.orelse]):
                continue
            if isinstance(node, (ast.If, ast.IfExp, ast.While)):
                names |= {
                    part.attr
                    for part in ast.walk(node.test)
                    if isinstance(part, ast.Attribute) and isinstance(part.value, ast.Name) and part.value.id == "self"
                }
    return sorted(names)


def mentions(cell: nn.Cell, word: str) -> bool:
    """Whether the class's methods or ``__init__`` contain the word in a name; False without source."""
    try:
        source = inspect.getsource(type(cell))
    except (OSError, TypeError):
        return False
    return word in source.lower()


def is_self_attribute(node: ast.AST, name: str) -> bool:
    """Whether the code is ``self.<name>``."""
    return (
        isinstance(node, ast.Attribute)
        and node.attr == name
        and isinstance(node.value, ast.Name)
        and node.value.id == "self"
    )


def _is_call_with_only(node: ast.AST, attribute: str, argument: ast.AST) -> bool:
    return (
        isinstance(node, ast.Call)
        and is_self_attribute(node.func, attribute)
        and len(node.args) == 1
        and node.args[0] is argument
        and not node.keywords
    )


def _block(owner: ast.AST, statement: ast.stmt) -> list[ast.stmt]:
    for _, value in ast.iter_fields(owner):
        if isinstance(value, list) and statement in value:
            return value
    raise AssertionError("a statement stands in a block of its parent")


def reads(node: ast.AST, name: str) -> list[ast.Name]:
    """Where the code reads a variable."""
    return [read for read in _names(node) if read.id == name and isinstance(read.ctx, ast.Load)]


def _names(node: ast.AST) -> Iterator[ast.Name]:
    return (part for part in ast.walk(node) if isinstance(part, ast.Name))
