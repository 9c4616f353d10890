"""What the source of a construct proves: that self.b, and nothing else, reads what self.a returns."""

from __future__ import annotations

import ast
import textwrap

import pytest
from mindspore import nn

from maam_ops.fusion import source

PROVEN = {
    "nested": "return self.b(self.a(x))",
    "nested deeper": "return x + self.c(self.b(self.a(x)))",
    "one name": "y = self.a(x)\nz = self.b(y)\nreturn z",
    "same name again": "x = self.a(x)\nx = self.b(x)\nreturn self.c(x) + x",
    "other work between": "y = self.a(x)\nk = self.c(x)\nreturn self.b(y) * k",
    "whole block in an if": "if self.training:\n    y = self.a(x)\n    x = self.b(y)\nreturn x",
    "name reused before": "y = self.c(x)\nx = x + y\ny = self.a(x)\nreturn self.b(y)",
}
NOT_PROVEN = {
    "read twice": ("y = self.a(x)\nreturn self.b(y) + y", "y, the output of self.a, is read 2 times"),
    "read by other code": ("y = self.a(x)\nreturn self.c(y)", "read 1 times, expected once, by self.b"),
    "never read": ("y = self.a(x)\nreturn x", "is read 0 times"),
    "read in one arm only": ("y = self.a(x)\nif self.training:\n    return self.b(y)\nreturn y", "read 2 times"),
    "read after the block": (
        "y = x\nif self.training:\n    y = self.a(x)\n    z = self.b(y)\nreturn y",
        "read 2 times",
    ),
    "read by a lambda": ("y = self.a(x)\nf = lambda: y\nreturn self.b(y) + f()", "read 2 times"),
    "straight into other code": ("return self.b(self.a(x) + 1)", "does not go straight into self.b"),
    "added on": ("x += self.a(x)\nreturn self.b(x)", "does not go straight into self.b"),
    "unpacked": ("y, z = self.a(x)\nreturn self.b(y)", "does not go straight into self.b"),
    "called twice": ("return self.b(self.a(x)) + self.a(x)", "names self.a 2 times"),
    "handed on uncalled": ("f = self.a\nreturn self.b(f(x))", "other than by calling it"),
    "with another argument": ("return self.b(self.a(x), 2)", "does not go straight into self.b"),
}


def verdict(monkeypatch: pytest.MonkeyPatch, body: str) -> str | None:
    function = ast.parse("def construct(self, x):\n" + textwrap.indent(body, "    ")).body[0]
    monkeypatch.setattr(source, "methods", lambda cell: {"construct": function})
    return source.why_not_only_reader(nn.Cell(), "a", "b")


@pytest.mark.parametrize("body", PROVEN.values(), ids=PROVEN)
def test_proven(monkeypatch, body):
    assert verdict(monkeypatch, body) is None


@pytest.mark.parametrize("case", NOT_PROVEN.values(), ids=NOT_PROVEN)
def test_not_proven(monkeypatch, case):
    body, reason = case
    assert reason in (verdict(monkeypatch, body) or "proven")


def test_methods_come_from_the_class_and_its_bases():
    class Base(nn.Cell):
        def helper(self, x):
            return x

        def construct(self, x):
            return self.helper(x)

    class Derived(Base):
        def construct(self, x):
            return self.helper(x) * 2

    found = source.methods(Derived())
    assert sorted(found) == ["construct", "helper"]
    assert "* 2" in ast.unparse(found["construct"])


def test_a_class_without_source_is_said_to_have_none():
    made = type("Typed", (nn.Cell,), {"construct": lambda self, x: x})
    with pytest.raises(source.SourceError, match="the source of Typed is not available"):
        source.methods(made())
