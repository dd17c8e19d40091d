"""The members: JSON and safetensors, to bytes and back, with every number held against its limit."""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from fairsynth.bundle.limits import (
    MAX_FILE_BYTES,
    MAX_JSON_BYTES,
    MAX_JSON_DEPTH,
    MAX_TENSOR_DIMENSIONS,
    MAX_TENSORS,
    TENSORS,
    refuse,
)
from fairsynth.errors import BundleError

Json = Any
Array = npt.NDArray[Any]

_DTYPES = {
    "F64": np.float64,
    "F32": np.float32,
    "F16": np.float16,
    "I64": np.int64,
    "I32": np.int32,
    "I16": np.int16,
    "I8": np.int8,
    "U64": np.uint64,
    "U32": np.uint32,
    "U16": np.uint16,
    "U8": np.uint8,
    "BOOL": np.bool_,
}


def to_json(value: Json, member: str, path: str) -> bytes:
    """Write a value as compact JSON in UTF-8, or refuse it."""
    try:
        text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        data = text.encode("utf-8")
        _check_json(value, strict_keys=True)
    except (TypeError, ValueError, RecursionError) as error:
        raise BundleError(f"{path}: {member} cannot be written as plain JSON: {error}.") from error
    if len(data) > MAX_JSON_BYTES:
        raise BundleError(
            f"{path}: {member} takes {len(data):,} bytes; at most {MAX_JSON_BYTES:,} are allowed."
        )
    return data


def to_safetensors(tensors: Mapping[str, Array], path: str) -> bytes:
    """Write arrays as safetensors, or refuse them."""
    from safetensors.numpy import save

    allowed = {np.dtype(dtype) for dtype in _DTYPES.values()}
    plain: dict[str, Array] = {}
    for name, given in tensors.items():
        array = np.array(given, order="C")
        array = array.astype(array.dtype.newbyteorder("="), copy=False)
        if array.dtype not in allowed:
            raise BundleError(
                f"{path}: the tensor {name!r} is of dtype {array.dtype}, which a model file cannot hold."
            )
        if array.ndim > MAX_TENSOR_DIMENSIONS or name == "__metadata__" or not 0 < len(name) <= 256:
            raise BundleError(
                f"{path}: the tensor {name!r} has too many dimensions, or a name that is not allowed."
            )
        plain[name] = array
    if len(plain) > MAX_TENSORS:
        raise BundleError(f"{path}: {len(plain):,} tensors are more than the {MAX_TENSORS:,} allowed.")
    return save(plain)


def parse_json(content: bytes, member: str, name: str) -> Json:
    """Read JSON without repeated keys, NaN, infinities or deep nesting."""
    if len(content) > MAX_JSON_BYTES:
        raise refuse(name, f"{member} has {len(content):,} bytes; at most {MAX_JSON_BYTES:,} are allowed")
    try:
        value = json.loads(content.decode("utf-8"), object_pairs_hook=_once, parse_constant=_no_constant)
        _check_json(value)
    except (ValueError, RecursionError) as error:
        raise refuse(name, f"{member} is not sound JSON ({error})") from error
    return value


def _once(pairs: list[tuple[str, Json]]) -> dict[str, Json]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key stands twice in one object")
    return found


def _no_constant(text: str) -> Json:
    raise ValueError(f"{text} is not a JSON number")


def _check_json(value: Json, *, strict_keys: bool = False) -> None:
    """Refuse deep nesting and numbers past what a float can hold, without recursion."""
    level = [value]
    for _ in range(MAX_JSON_DEPTH):
        below: list[Json] = []
        for item in level:
            if isinstance(item, dict):
                if strict_keys and not all(isinstance(key, str) for key in item):
                    raise ValueError("a key is not text, and would not come back as it was")
                below.extend(item.values())
            elif isinstance(item, list | tuple):
                below.extend(item)
            elif isinstance(item, float) and not math.isfinite(item):
                raise ValueError("a number is too large")
        if not below:
            return
        level = below
    raise ValueError(f"nested more than {MAX_JSON_DEPTH} deep")


def parse_tensors(content: bytes, name: str) -> dict[str, Array]:
    """Read safetensors whose header is sound and whose tensors fill the rest exactly."""
    if len(content) < 8:
        raise refuse(name, f"{TENSORS} is cut off")
    (size,) = struct.unpack_from("<Q", content)
    if size > min(len(content) - 8, MAX_JSON_BYTES):
        raise refuse(name, f"{TENSORS} states a header of {size:,} bytes, more than there is")
    header = parse_json(content[8 : 8 + size], f"the header of {TENSORS}", name)
    if not isinstance(header, dict) or len(header) > MAX_TENSORS:
        raise refuse(name, f"the header of {TENSORS} lists no tensors, or too many")
    body = memoryview(content)[8 + size :]
    spans: list[tuple[int, int]] = []
    tensors: dict[str, Array] = {}
    for tensor, entry in header.items():
        try:
            dtype, shape, begin, end = _tensor_entry(entry)
        except ValueError as error:
            raise refuse(name, f"the tensor {tensor!r} {error}") from error
        if not 0 <= begin <= end <= len(body):
            raise refuse(name, f"the tensor {tensor!r} lies outside of the file")
        if math.prod(shape) * dtype.itemsize != end - begin:
            raise refuse(name, f"the tensor {tensor!r} is of another size than its shape says")
        if dtype == np.bool_ and np.frombuffer(body[begin:end], np.uint8).max(initial=0) > 1:
            raise refuse(name, f"the tensor {tensor!r} holds truth values that are neither true nor false")
        spans.append((begin, end))
        tensors[tensor] = np.frombuffer(body[begin:end], dtype).reshape(shape).astype(dtype.newbyteorder("="))
    spans.sort()
    edges = [0, *(end for _, end in spans)]
    if [begin for begin, _ in spans] != edges[:-1] or edges[-1] != len(body):
        raise refuse(name, f"the tensors in {TENSORS} overlap or leave gaps")
    return tensors


def _tensor_entry(entry: Json) -> tuple[np.dtype[Any], tuple[int, ...], int, int]:
    if not isinstance(entry, dict) or set(entry) != {"dtype", "shape", "data_offsets"}:
        raise ValueError("has an entry that is not one of safetensors")
    kind, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(kind, str) or kind not in _DTYPES:
        raise ValueError(f"is of dtype {kind!r:.40}, which a model file cannot hold")
    if (
        not isinstance(shape, list)
        or len(shape) > MAX_TENSOR_DIMENSIONS
        or not all(type(length) is int and 0 <= length <= MAX_FILE_BYTES for length in shape)
        # NumPy also refuses an empty array whose other lengths multiply to too much.
        or math.prod(length for length in shape if length) > MAX_FILE_BYTES
    ):
        raise ValueError("has no sound shape")
    if (
        not isinstance(offsets, list)
        or len(offsets) != 2
        or not all(type(offset) is int and 0 <= offset <= MAX_FILE_BYTES for offset in offsets)
    ):
        raise ValueError("has no sound place in the file")
    return np.dtype(_DTYPES[kind]).newbyteorder("<"), tuple(shape), offsets[0], offsets[1]
