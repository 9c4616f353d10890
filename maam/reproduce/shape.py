"""Whether what was read from a JSON file has the entries that a report takes from it."""

from __future__ import annotations

import math
from typing import Any


def check(content: Any, expected: Any, name: str = "the file") -> None:
    """Raise ValueError, naming the entry, unless `content` is as `expected`.

    `expected` is a type (float: any finite number), or expected entries by name; other entries are nobody's business.
    """
    if isinstance(expected, dict):
        if not isinstance(content, dict):
            raise ValueError(f"{name} is {content!r}, expected entries by name")
        for key, kind in expected.items():
            if key not in content:
                raise ValueError(f"{name} has no entry {key!r}")
            check(content[key], kind, key)
        return
    if expected is float:
        if type(content) not in (int, float) or not math.isfinite(content):
            raise ValueError(f"{name} is {content!r}, expected a finite number")
    elif type(content) is not expected:
        raise ValueError(f"{name} is {content!r}, expected of type {expected.__name__}")
