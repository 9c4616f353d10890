"""Checkpoints in MindSpore's own format, written atomically, with a CRC and what is needed to rebuild the model."""

from __future__ import annotations

import binascii
import json
import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import mindspore as ms
import numpy as np
from google.protobuf.message import DecodeError
from mindspore import Parameter, Tensor
from mindspore.train import checkpoint_pb2

from .errors import MaamError
from .files import atomic_path

_META = "maam"
# How MindSpore ends a checkpoint saved with crc_check=True: this tag and ten big-endian bytes of CRC-32.
_CRC_TAG, _CRC_BYTES = b"crc_num", 10
# Bytes of an element, by MindSpore's name of its type.
_WIDTHS = {f"{kind}{bits}": bits // 8 for kind in ("Int", "UInt", "Float") for bits in (8, 16, 32, 64)}
_WIDTHS |= {"BFloat16": 2, "Bool": 1}
_MAX_DIMS = 32  # of an array in NumPy, which a Tensor with more cannot become


@dataclass(frozen=True)
class Checkpoint:
    """A loaded checkpoint.

    Attributes:
        path: where it came from.
        parameters: values by parameter name.
        meta: what :func:`save` was given, or None for a file written by other programs.
    """

    path: Path
    parameters: dict[str, Parameter]
    meta: dict[str, Any] | None

    def only(self, prefix: str) -> Checkpoint:
        """The entries whose name begins with `prefix`, without it."""
        entries = {name: value for name, value in self.parameters.items() if name.startswith(prefix)}
        return replace(self, parameters={name.removeprefix(prefix): value for name, value in entries.items()})

    def load_into(self, targets: Iterable[Parameter]) -> None:
        """Copy values into `targets` by name; entries of the file without a target are ignored.

        Raises:
            MaamError: a target is missing from the file or has another shape or dtype; no target is changed then.
        """
        targets = list(targets)
        for target in targets:
            value = self.parameters.get(target.name)
            got = "nothing" if value is None else f"{value.dtype} {value.shape}"
            expected = f"{target.dtype} {target.shape}"
            if got != expected:
                raise MaamError(f"checkpoint {self.path}: parameter {target.name} is {got}, expected {expected}")
        for target in targets:
            target.set_data(self.parameters[target.name].value())


def save(path: Path, parameters: Iterable[Parameter], meta: dict[str, Any]) -> None:
    """Write `parameters` (once per name) and the JSON-able `meta` to `path`, replacing it in one step.

    Raises:
        MaamError: it could not be written, on a full disk for example; what was at `path` before is still there.
    """
    # The meta entry goes first: a file that was cut off anywhere behind it is known for ours, and must end with a CRC.
    text = Tensor(np.frombuffer(json.dumps(meta).encode(), np.uint8))
    values = {_META: text, **{parameter.name: parameter for parameter in parameters}}
    entries = [{"name": name, "data": value} for name, value in values.items()]
    try:
        with atomic_path(path) as temporary:
            ms.save_checkpoint(entries, str(temporary), crc_check=True)
    except (OSError, RuntimeError) as error:
        raise MaamError(
            f"checkpoint {path}: cannot be written ({error}); the one before is kept. Free some space, or take another "
            "folder, and continue from there"
        ) from error


def load(path: str | Path) -> Checkpoint:
    """Read a checkpoint of this package or of `mindspore.save_checkpoint`.

    Raises:
        MaamError: no such file, or a damaged one.
    """
    path = Path(path)
    if not path.is_file():
        raise MaamError(f"checkpoint {path}: got no such file, expected a .ckpt file")
    if path.suffix != ".ckpt":
        raise MaamError(f"checkpoint {path}: got suffix {path.suffix!r}, expected '.ckpt'")
    checked = _check_crc(path)
    _check_sizes(path, checked)
    try:
        parameters = ms.load_checkpoint(str(path))
    except (ValueError, TypeError, RuntimeError) as error:
        raise MaamError(f"checkpoint {path}: damaged, or not a checkpoint; use another copy") from error
    meta = parameters.pop(_META, None)
    if meta is not None and not checked:
        raise MaamError(f"checkpoint {path}: damaged (it was cut off); use another copy")
    return Checkpoint(path, parameters, None if meta is None else _decoded(path, meta.asnumpy().tobytes()))


def _decoded(path: Path, text: bytes) -> dict[str, Any]:
    """The meta entry, which is JSON and names at least the settings and the data of a run."""
    try:
        meta = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise MaamError(f"checkpoint {path}: its entry {_META!r} is not JSON; use another copy") from error
    kinds = {"config": dict, "data": str}
    if not isinstance(meta, dict) or not all(isinstance(meta.get(name), kind) for name, kind in kinds.items()):
        raise MaamError(f"checkpoint {path}: its entry {_META!r} lacks 'config' or 'data'; it is of another program")
    return meta


def _check_sizes(path: Path, checked: bool) -> None:
    """Raise unless every entry holds as many bytes as its shape takes.

    MindSpore copies them unseen, past the end of the one or the other.
    """
    content = path.read_bytes()
    entries = checkpoint_pb2.Checkpoint()
    try:
        entries.ParseFromString(content[: -len(_CRC_TAG) - _CRC_BYTES] if checked else content)
    except (DecodeError, UnicodeDecodeError) as error:  # the latter for names that are no text
        raise MaamError(f"checkpoint {path}: damaged, or not a checkpoint; use another copy") from error
    sizes: dict[str, int] = {}  # a large entry comes in several pieces, one after the other
    for i, entry in enumerate(entries.value):
        tensor = entry.tensor
        sizes[entry.tag] = sizes.get(entry.tag, 0) + len(tensor.tensor_content)
        if i + 1 < len(entries.value) and entries.value[i + 1].tag == entry.tag:
            continue
        dims = [] if list(tensor.dims) == [0] else list(tensor.dims)
        width = _WIDTHS.get(tensor.tensor_type)
        valid = width is not None and len(dims) <= _MAX_DIMS and min(dims, default=0) >= 0
        if not valid or sizes.pop(entry.tag) != math.prod(dims) * width:
            kind = f"{tensor.tensor_type or 'nothing'} {tuple(dims)}"
            raise MaamError(
                f"checkpoint {path}: damaged (the bytes of {entry.tag!r} are not a {kind}); use another copy"
            )


def _check_crc(path: Path) -> bool:
    """Whether the file carries a CRC-32, as those of :func:`save` do; raises when it is wrong."""
    content = memoryview(path.read_bytes())
    tail = len(_CRC_TAG) + _CRC_BYTES
    if bytes(content[-tail:-_CRC_BYTES]) != _CRC_TAG:
        return False
    expected = int.from_bytes(content[-_CRC_BYTES:], "big")
    got = binascii.crc32(content[:-tail])
    if got != expected:
        raise MaamError(f"checkpoint {path}: damaged (CRC-32 is {got:08x}, expected {expected:08x}); use another copy")
    return True
