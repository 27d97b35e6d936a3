"""Validate ONNX files before ONNX Runtime opens them: an untrusted file could read other files or exhaust the memory.

The relevant fields are read directly from the protobuf wire format (https://protobuf.dev/programming-guides/encoding
and onnx.proto3), because the serving environment contains no package that parses ONNX, and a small parser has a small
attack surface. The memory that a valid graph uses for an image is unknown before it runs. A process that runs untrusted
models therefore needs a memory limit of its own, such as that of the container.
"""

import math
import mmap
from collections.abc import Iterator
from pathlib import Path

from stages.core.errors import UserError

MAX_FILE_BYTES = 2**31  # bytes: the limit of protobuf
MAX_CREATED_VALUES = 2**28  # values that a node may create independently of the image
MAX_GRAPH_DEPTH = 16  # levels of nested graphs
VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
# Field numbers in onnx.proto3.
MODEL_GRAPH, MODEL_FUNCTION = 7, 25
GRAPH_NODE, GRAPH_TENSOR, GRAPH_SPARSE = 1, 5, 15
FUNCTION_NODE = 7
NODE_INPUT, NODE_OUTPUT, NODE_OPERATOR, NODE_ATTRIBUTE = 1, 2, 4, 5
ATTRIBUTE_TENSOR, ATTRIBUTE_TENSORS, ATTRIBUTE_GRAPH, ATTRIBUTE_GRAPHS = 5, 10, 6, 11
ATTRIBUTE_INT, ATTRIBUTE_INTS = 3, 8
ATTRIBUTE_SPARSE, ATTRIBUTE_SPARSES = 22, 23
SPARSE_VALUES, SPARSE_INDICES = 1, 2
TENSOR_DIMS, TENSOR_TYPE, TENSOR_NAME, TENSOR_RAW, TENSOR_EXTERNAL, TENSOR_LOCATION = 1, 2, 8, 9, 13, 14
INT64 = 7  # the data type of shapes
TENSOR_VALUES = (4, 5, 6, 7, TENSOR_RAW, 10, 11)
TENSOR_INT64S = 7
CREATING_OPERATORS = {b"ConstantOfShape": 0, b"Expand": 1, b"Tile": 1}
"""Operators that create large tensors from small inputs: the index of the input that holds the shape."""
MAX_DIMENSIONS = 64
COMPUTED = -1
"""Placeholder for a number of elements that does not depend on the image but is computed by the graph."""

Field = tuple[int, int, int]
"""(field number, first byte, end byte); for an integer (field number, value, `PLAIN`), for a number of fixed size twice
its end."""
PLAIN = -1


class InvalidProtobuf(ValueError):
    """Bytes that are not valid protobuf."""


def refuse_malicious(file: Path) -> None:
    """Check every tensor and node of a model file.

    Raises:
        UserError: the file is empty, damaged or too large, refers to other files, nests graphs too deeply, declares a
            tensor larger than its data, or creates a tensor of huge or computed size independently of the image.
    """
    size = file.stat().st_size
    if size > MAX_FILE_BYTES:
        raise UserError(f"model: {file} has {size} bytes; an ONNX file has at most {MAX_FILE_BYTES}")
    if not size:
        raise UserError(f"model: {file} cannot be opened: it is empty; export the model again")
    with file.open("rb") as opened, mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) as data:
        refuse_malicious_bytes(data, str(file))


def refuse_malicious_bytes(data: bytes | mmap.mmap, name: str) -> None:
    """Check every tensor and node of a model in memory.

    Args:
        data: bytes of the ONNX file.
        name: name of the model in error messages.

    Raises:
        UserError: see `refuse_malicious`.
    """
    try:
        _ModelChecker(name, data).model()
    except InvalidProtobuf as error:
        raise UserError(f"model: {name} cannot be opened: it is damaged, or not an ONNX file ({error})") from None


class _ModelChecker:
    def __init__(self, file: str, data: bytes | mmap.mmap) -> None:
        self.file, self.data = file, data

    def model(self) -> None:
        for number, begin, end in self.fields(0, len(self.data)):
            if number == MODEL_GRAPH:
                self.graph(begin, end, GRAPH_NODE, 0)
            elif number == MODEL_FUNCTION:
                self.graph(begin, end, FUNCTION_NODE, 0)

    def graph(self, begin: int, end: int, node: int, depth: int, outside: dict[bytes, int] | None = None) -> None:
        """Check a graph or a function.

        Args:
            begin: offset of the first byte.
            end: offset after the last byte.
            node: field number of the nodes.
            depth: number of enclosing graphs.
            outside: known tensors of the enclosing graph, see `node`.
        """
        if depth > MAX_GRAPH_DEPTH:
            raise UserError(
                f"model: {self.file} nests graphs more than {MAX_GRAPH_DEPTH} levels deep; export the model again"
            )
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
        """Check a node and add its outputs to `known` if they do not depend on the image.

        Args:
            begin: offset of the first byte.
            end: offset after the last byte.
            known: tensors that do not depend on the image, by name, each with the number of elements of a tensor that
                has it as shape (0 for a tensor that is not int64, `COMPUTED` if unknown).
            depth: number of enclosing graphs.
        """
        operator, inputs, outputs, attribute_size = b"", [], [], 0
        for number, at, to in self.fields(begin, end):
            if number == NODE_OPERATOR:
                operator = self.bytes(at, to)
            elif number == NODE_INPUT:
                inputs.append(self.bytes(at, to))
            elif number == NODE_OUTPUT:
                outputs.append(self.bytes(at, to))
            elif number == NODE_ATTRIBUTE:
                attribute_size = max(attribute_size, self.attribute(at, to, known, depth))
        shape_input = inputs[CREATING_OPERATORS.get(operator, 0) :][:1]
        size = known.get(shape_input[0], 0) if shape_input else 0
        if operator in CREATING_OPERATORS and (size > MAX_CREATED_VALUES or size == COMPUTED):
            many = "a computed size" if size == COMPUTED else f"{size} values"
            raise UserError(
                f"model: {self.file} creates a tensor of {many} independently of the image; export the model again"
            )
        if all(name in known for name in inputs if name):
            elements = attribute_size if operator == b"Constant" else size if operator == b"Identity" else COMPUTED
            known.update(dict.fromkeys(outputs, elements))

    def attribute(self, begin: int, end: int, known: dict[bytes, int], depth: int) -> int:
        """Check an attribute; return the product of its positive sizes, or 0 if it has neither tensors nor integers.

        Args:
            begin: offset of the first byte.
            end: offset after the last byte.
            known: see `node`.
            depth: number of enclosing graphs.
        """
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
        """Check a tensor; return its name and the product of its positive values.

        The product is 0 if the tensor is not int64, and `COMPUTED` if its values are not known.
        """
        dims: list[int] = []
        sizes: list[int] = []
        held, data_type, name = 0, 0, b""
        for number, at, to in self.fields(begin, end):
            if number == TENSOR_EXTERNAL or (number == TENSOR_LOCATION and at != 0):
                raise UserError(
                    f"model: {self.file} stores a tensor in another file, which is not supported; save the model as "
                    "one file"
                )
            if number == TENSOR_DIMS:
                dims += [_signed(at)] if to == PLAIN else self.numbers(at, to)
            elif number == TENSOR_TYPE:
                data_type = at % 2**32  # protobuf truncates it to 32 bits
            elif number == TENSOR_NAME:
                name = self.bytes(at, to)
            elif number in TENSOR_VALUES:
                held += 8 if to in (PLAIN, at) else to - at
                is_small = to == PLAIN or to - at <= 8 * MAX_DIMENSIONS
                if number == TENSOR_INT64S and is_small:
                    sizes += [_signed(at)] if to == PLAIN else self.numbers(at, to)
                elif number == TENSOR_RAW and is_small and to != PLAIN:
                    sizes += [int.from_bytes(self.data[i : i + 8], "little", signed=True) for i in range(at, to, 8)]
        count = math.prod(dims)
        if any(n < 0 for n in dims) or count > held:
            raise UserError(
                f"model: {self.file}: tensor {name.decode(errors='replace')!r} has the shape {dims}, but only {held} "
                "bytes of data; the file is damaged or malicious"
            )
        if data_type != INT64:  # only int64 tensors are shapes
            return name, 0
        return name, math.prod(n for n in sizes if n > 0) if len(sizes) == count else COMPUTED

    def numbers(self, at: int, to: int) -> list[int]:
        """Return packed integers."""
        values = []
        while at < to:
            value, at = self.varint(at, to)
            values.append(_signed(value))
        return values

    def fields(self, begin: int, end: int) -> Iterator[Field]:
        """Yield the fields of a message; raise InvalidProtobuf if `end` is `PLAIN`, which is an integer instead."""
        if end == PLAIN:
            raise InvalidProtobuf("an integer instead of a message")
        at = begin
        while at < end:
            tag, at = self.varint(at, end)
            if tag >= 2**32:  # protobuf would truncate it and read another field
                raise InvalidProtobuf(f"field number {tag >> 3} at {at} is too large")
            number, wire = tag >> 3, tag & 7
            if wire == VARINT:
                value, at = self.varint(at, end)
                yield number, value, PLAIN
            elif wire == BYTES:
                length, at = self.varint(at, end)
                if at + length > end:
                    raise InvalidProtobuf(f"a field of {length} bytes at {at} ends after its message")
                yield number, at, at + length
                at += length
            elif wire in (FIXED64, FIXED32):
                at += 8 if wire == FIXED64 else 4
                if at > end:
                    raise InvalidProtobuf(f"a number at {at} ends after its message")
                yield number, at, at
            else:
                raise InvalidProtobuf(f"unknown wire type {wire} at {at}")

    def bytes(self, at: int, to: int) -> bytes:
        """Return the bytes of a name."""
        if to == PLAIN:
            raise InvalidProtobuf("an integer instead of a name")
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
        raise InvalidProtobuf(f"a number does not end at {at}")


def _signed(value: int) -> int:
    return value - 2**64 if value >= 2**63 else value
