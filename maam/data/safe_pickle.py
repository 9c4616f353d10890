"""Reading a pickle of plain containers and integer arrays without running anything it names.

The official python layout of CIFAR-10 is pickle, and a pickle may call any function it can import. This unpickler
resolves no import at all: the few names NumPy arrays need are mapped to the inert classes below, which check what
they are given; every other name is refused.
"""

from __future__ import annotations

import io
import pickle
import struct
from typing import Any, BinaryIO, ClassVar

import numpy as np

_ALLOWED_DTYPES = frozenset({"u1", "i4", "i8"})


class _Dtype:
    """Stands in for numpy.dtype: remembers a type code such as "u1"."""

    def __init__(self, code: str, align: object = False, copy: object = True) -> None:
        if code not in _ALLOWED_DTYPES:
            raise pickle.UnpicklingError(f"array of dtype {code!r}; only {sorted(_ALLOWED_DTYPES)} are accepted")
        self.code = code

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        if state[1] not in ("|", "<", "="):
            raise pickle.UnpicklingError(f"array of byte order {state[1]!r}; only little-endian is accepted")


class _NdarrayName:
    """Stands in for the class numpy.ndarray, which the pickle only passes on."""


class _Array:
    """Stands in for a pickled numpy.ndarray until its state arrives; `value` is the array."""

    def __init__(self, *_: object) -> None:
        self.value: np.ndarray | None = None

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _, shape, dtype, fortran, raw = state
        self.value = _decode(raw, dtype, shape, "F" if fortran else "C")


def _decode(raw: object, dtype: object, shape: object, order: str) -> np.ndarray:
    if not isinstance(dtype, _Dtype) or not isinstance(raw, bytes | bytearray):
        raise pickle.UnpicklingError("array without a dtype or without bytes")
    return np.frombuffer(raw, dtype="<" + dtype.code).reshape(shape, order=order)


def _array_from_buffer(raw: object, dtype: object, shape: object, order: str) -> _Array:
    array = _Array()
    array.value = _decode(raw, dtype, shape, order)
    return array


def _encode(text: str, encoding: str) -> bytes:
    """codecs.encode, which Python 3 uses to store bytes in old protocols; other codecs would import modules."""
    if encoding not in ("latin1", "latin-1"):
        raise pickle.UnpicklingError(f"bytes stored with codec {encoding!r}; only latin1 is accepted")
    return text.encode("latin1")


_NAMES: dict[tuple[str, str], Any] = {("_codecs", "encode"): _encode, ("numpy", "dtype"): _Dtype}
_NAMES["numpy", "ndarray"] = _NdarrayName
for _core in ("numpy.core", "numpy._core"):
    _NAMES[f"{_core}.multiarray", "_reconstruct"] = _Array
    _NAMES[f"{_core}.numeric", "_frombuffer"] = _array_from_buffer


class _Unpickler(pickle._Unpickler):  # type: ignore[name-defined]
    """In Python: the compiled one allocates as many places for remembered objects as a damaged file says, gigabytes."""

    dispatch: ClassVar = dict(pickle._Unpickler.dispatch)  # type: ignore[attr-defined]

    def load_bytearray8(self) -> None:
        """Python's own allocates as many bytes as the file says before it reads what there is."""
        (size,) = struct.unpack("<Q", self.read(8))
        self.append(bytearray(self.read(size)))

    dispatch[pickle.BYTEARRAY8[0]] = load_bytearray8

    def find_class(self, module: str, name: str) -> Any:
        try:
            return _NAMES[module, name]
        except KeyError:
            raise pickle.UnpicklingError(f"it names {module}.{name}, which a data file has no use for") from None

    def persistent_load(self, pid: object) -> Any:
        raise pickle.UnpicklingError("it refers to an external object")


def load(stream: BinaryIO) -> Any:
    """The pickled object; arrays one level deep in a dict become numpy.ndarray, bytes keys stay bytes.

    Raises:
        pickle.UnpicklingError: anything but containers, numbers, text, bytes and uint8/int32/int64 arrays.
    """
    try:
        # From memory, where a read cannot reserve more than there is.
        value = _Unpickler(io.BytesIO(stream.read()), encoding="bytes").load()
    except pickle.UnpicklingError:
        raise
    # A damaged pickle can raise nearly anything: its opcodes index stacks and allocate as the file says.
    except Exception as error:
        raise pickle.UnpicklingError(f"{type(error).__name__}: {error}") from error
    if isinstance(value, dict):
        value = {key: entry.value if isinstance(entry, _Array) else entry for key, entry in value.items()}
    return value
