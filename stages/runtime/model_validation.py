"""Files that are no plain model are refused before ONNX Runtime opens them: they may come from anywhere.

The few fields that matter are read from the protobuf wire format (https://protobuf.dev/programming-guides/encoding and
onnx.proto3); the serving environment has no package that knows them, and what is not read cannot be attacked. What a
sound-looking graph takes for an image is not known before it runs: a process that runs foreign models needs a bound of
its own, as the container has one.
"""

import math
import mmap
from collections.abc import Iterator
from pathlib import Path

from stages.core.errors import UserError

LARGEST = 2**31  # bytes: what protobuf itself can hold
MOST_MADE = 2**28  # values that a node may be told to make out of nothing
DEEPEST = 16  # graphs within graphs
VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
# Numbers of fields.
MODEL_GRAPH, MODEL_FUNCTION = 7, 25
GRAPH_NODE, GRAPH_TENSOR, GRAPH_SPARSE = 1, 5, 15
FUNCTION_NODE = 7
NODE_INPUT, NODE_OUTPUT, NODE_OPERATOR, NODE_ATTRIBUTE = 1, 2, 4, 5
ATTRIBUTE_TENSOR, ATTRIBUTE_TENSORS, ATTRIBUTE_GRAPH, ATTRIBUTE_GRAPHS = 5, 10, 6, 11
ATTRIBUTE_INT, ATTRIBUTE_INTS = 3, 8
ATTRIBUTE_SPARSE, ATTRIBUTE_SPARSES = 22, 23
SPARSE_VALUES, SPARSE_INDICES = 1, 2
TENSOR_DIMS, TENSOR_TYPE, TENSOR_NAME, TENSOR_RAW, TENSOR_EXTERNAL, TENSOR_LOCATION = 1, 2, 8, 9, 13, 14
INT64 = 7  # the type of sizes
TENSOR_VALUES = (4, 5, 6, 7, TENSOR_RAW, 10, 11)
TENSOR_INT64S = 7
MAKERS = {b"ConstantOfShape": 0, b"Expand": 1, b"Tile": 1}
"""Operators that make many values out of a few, and which of their inputs says how many."""
MOST_SIZES = 64
COMPUTED = -1
"""In the place of a product of sizes: it hangs on no image, and still it is not written down."""

Field = tuple[int, int, int]
"""Number of the field, and where its bytes begin and end; of a plain number its value, and `PLAIN`."""
PLAIN = -1


class Damaged(ValueError):
    """No protobuf."""


def refuse_malicious(file: Path) -> None:
    """Look at every tensor that a model holds.

    Raises:
        UserError: it points at other files, says that a tensor is larger than it is, or makes a huge one.
    """
    size = file.stat().st_size
    if size > LARGEST:
        raise UserError(f"model: {file} has {size} bytes, above {LARGEST}; no ONNX file can")
    if not size:
        raise UserError(f"model: {file} cannot be opened: it is empty")
    with file.open("rb") as opened, mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) as data:
        refuse_malicious_bytes(data, str(file))


def refuse_malicious_bytes(data: bytes | mmap.mmap, name: str) -> None:
    """The same for the bytes of a model, called `name`; raises `UserError`."""
    try:
        _Looking(name, data).model()
    except Damaged as error:
        raise UserError(f"model: {name} cannot be opened: it is damaged, or no ONNX file ({error})") from None


class _Looking:
    def __init__(self, file: str, data: bytes | mmap.mmap) -> None:
        self.file, self.data = file, data

    def model(self) -> None:
        for number, begin, end in self.fields(0, len(self.data)):
            if number == MODEL_GRAPH:
                self.graph(begin, end, GRAPH_NODE, 0)
            elif number == MODEL_FUNCTION:
                self.graph(begin, end, FUNCTION_NODE, 0)

    def graph(self, begin: int, end: int, node: int, depth: int, outside: dict[bytes, int] | None = None) -> None:
        """Of a graph or a function; `outside`: what is known of the tensors of the graph around it."""
        if depth > DEEPEST:
            raise UserError(f"model: {self.file} has graphs within graphs, more than {DEEPEST} deep")
        known = dict(outside or {})
        nodes = []
        for number, at, to in self.fields(begin, end):
            if number == node:
                nodes.append((at, to))
            elif node == GRAPH_NODE and number == GRAPH_TENSOR:
                name, sizes = self.tensor(at, to)
                known[name] = sizes
            elif node == GRAPH_NODE and number == GRAPH_SPARSE:
                self.sparse(at, to)
        for at, to in nodes:
            self.node(at, to, known, depth)

    def node(self, begin: int, end: int, known: dict[bytes, int], depth: int) -> None:
        """`known`, to which its outputs are added: of tensors that hang on no image, the product of their sizes."""
        operator, inputs, outputs, told = b"", [], [], 0
        for number, at, to in self.fields(begin, end):
            if number == NODE_OPERATOR:
                operator = self.bytes(at, to)
            elif number == NODE_INPUT:
                inputs.append(self.bytes(at, to))
            elif number == NODE_OUTPUT:
                outputs.append(self.bytes(at, to))
            elif number == NODE_ATTRIBUTE:
                told = max(told, self.attribute(at, to, known, depth))
        said = inputs[MAKERS.get(operator, 0) :][:1]
        asked = known.get(said[0], 0) if said else 0
        if operator in MAKERS and (asked > MOST_MADE or asked == COMPUTED):
            many = "a size that nobody can see" if asked == COMPUTED else f"{asked} values"
            raise UserError(
                f"model: {self.file} makes a tensor of {many} out of nothing; it was not written by `export`"
            )
        if all(name in known for name in inputs if name):
            made = told if operator == b"Constant" else asked if operator == b"Identity" else COMPUTED
            known.update(dict.fromkeys(outputs, made))

    def attribute(self, begin: int, end: int, known: dict[bytes, int], depth: int) -> int:
        """Returns the product of the sizes that it holds, 0 if none."""
        sizes: list[int] = []
        for number, at, to in self.fields(begin, end):
            if number in (ATTRIBUTE_TENSOR, ATTRIBUTE_TENSORS):
                sizes.append(self.tensor(at, to)[1])
            elif number in (ATTRIBUTE_GRAPH, ATTRIBUTE_GRAPHS):
                self.graph(at, to, GRAPH_NODE, depth + 1, known)
            elif number in (ATTRIBUTE_SPARSE, ATTRIBUTE_SPARSES):
                self.sparse(at, to)
            elif number in (ATTRIBUTE_INT, ATTRIBUTE_INTS):
                sizes += [_signed(at)] if to == PLAIN else self.numbers(at, to)
        return math.prod(n for n in sizes if n > 0) if sizes else 0

    def sparse(self, begin: int, end: int) -> None:
        for number, at, to in self.fields(begin, end):
            if number in (SPARSE_VALUES, SPARSE_INDICES):
                self.tensor(at, to)

    def tensor(self, begin: int, end: int) -> tuple[bytes, int]:
        """Its name; and where it holds sizes, as a shape does, their product."""
        dims: list[int] = []
        sizes: list[int] = []
        held, kind, name = 0, 0, b""
        for number, at, to in self.fields(begin, end):
            if number == TENSOR_EXTERNAL or (number == TENSOR_LOCATION and at != 0):
                raise UserError(
                    f"model: {self.file} keeps a tensor in another file; that is not opened, only one file is"
                )
            if number == TENSOR_DIMS:
                dims += [_signed(at)] if to == PLAIN else self.numbers(at, to)
            elif number == TENSOR_TYPE:
                kind = at % 2**32  # as protobuf cuts it
            elif number == TENSOR_NAME:
                name = self.bytes(at, to)
            elif number in TENSOR_VALUES:
                held += 8 if to in (PLAIN, at) else to - at
                few = to == PLAIN or to - at <= 8 * MOST_SIZES
                if number == TENSOR_INT64S and few:
                    sizes += [_signed(at)] if to == PLAIN else self.numbers(at, to)
                elif number == TENSOR_RAW and few and to != PLAIN:
                    sizes += [int.from_bytes(self.data[i : i + 8], "little", signed=True) for i in range(at, to, 8)]
        count = math.prod(dims)
        if any(n < 0 for n in dims) or count > held:
            raise UserError(
                f"model: {self.file} says that tensor {name.decode(errors='replace')!r} has the shape {dims} and holds "
                f"{held} bytes of it"
            )
        if kind != INT64:  # the bits of a float are no size
            return name, 0
        return name, math.prod(n for n in sizes if n > 0) if len(sizes) == count else COMPUTED

    def numbers(self, at: int, to: int) -> list[int]:
        """Several, packed."""
        found = []
        while at < to:
            value, at = self.varint(at, to)
            found.append(_signed(value))
        return found

    def fields(self, begin: int, end: int) -> Iterator[Field]:
        """Of a message; `end` is `PLAIN` where a number stands in the place of one."""
        if end == PLAIN:
            raise Damaged("a number stands where a message should")
        at = begin
        while at < end:
            tag, at = self.varint(at, end)
            if tag >= 2**32:  # protobuf would cut it, and see another field than is seen here
                raise Damaged(f"a field has the number {tag >> 3}, at {at}")
            number, wire = tag >> 3, tag & 7
            if wire == VARINT:
                value, at = self.varint(at, end)
                yield number, value, PLAIN
            elif wire == BYTES:
                length, at = self.varint(at, end)
                if at + length > end:
                    raise Damaged(f"a field of {length} bytes at {at} ends behind its message")
                yield number, at, at + length
                at += length
            elif wire in (FIXED64, FIXED32):
                at += 8 if wire == FIXED64 else 4
                if at > end:
                    raise Damaged(f"a number ends behind its message at {at}")
                yield number, at, at
            else:
                raise Damaged(f"there is no wire type {wire}, at {at}")

    def bytes(self, at: int, to: int) -> bytes:
        """Of a name."""
        if to == PLAIN:
            raise Damaged("a number stands where a name should")
        return self.data[at:to]

    def varint(self, at: int, end: int) -> tuple[int, int]:
        value = shift = 0
        while at < end and shift < 70:
            byte = self.data[at]
            at += 1
            value |= (byte & 127) << shift
            if byte < 128:
                return value, at
            shift += 7
        raise Damaged(f"a number does not end at {at}")


def _signed(value: int) -> int:
    return value - 2**64 if value >= 2**63 else value
