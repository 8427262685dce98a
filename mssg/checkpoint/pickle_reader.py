"""Reading network pickles of the StyleGAN family as data: nothing in them is run, nothing they name is
imported.

Python's own unpickler calls what a file names. This one is a small machine of its own: it knows the opcodes
and the few names that such files need, answers each name with a function from this file, and builds inert
values only. The source text that the official `torch_utils.persistence` puts into its files is skipped. Work
and memory are bounded by the size of the file.
"""

from __future__ import annotations

import pickle
import pickletools
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from mssg.errors import SnapshotError

LARGEST_FILE = 4 * 2**30
MOST_STEPS = 2_000_000
"""Opcodes a file may have; the official networks of 1024 pixels take about 50,000."""
_LONGEST_NAME = 200
_LONGEST_INTEGER = 64  # bytes
_MOST_DIMENSIONS = 8
_MALFORMED = (IndexError, KeyError, TypeError, ValueError, OverflowError, AttributeError, struct.error)

# How torch writes a storage on its own: four pickles before the one with the keys, then its length and its
# numbers.
_TORCH_MAGIC, _TORCH_PROTOCOL = 0x1950A86A20F9469CFC6C, 1001
_STORAGES = {
    "DoubleStorage": "<f8",
    "FloatStorage": "<f4",
    "HalfStorage": "<f2",
    "LongStorage": "<i8",
    "IntStorage": "<i4",
    "ShortStorage": "<i2",
    "CharStorage": "|i1",
    "ByteStorage": "|u1",
    "BoolStorage": "|b1",
}
_DTYPES = {"f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "b1"}


@dataclass(eq=False)
class PickledModule:
    """A network or layer as it stands in the file: the name of its class and its attributes, both mere
    data."""

    class_name: str
    state: dict[str, Any] = field(default_factory=dict)

    def part(self, name: str) -> dict[str, Any]:
        """`_parameters`, `_buffers` or `_modules`; empty where absent or of another kind."""
        found = self.state.get(name)
        return found if isinstance(found, dict) else {}


@dataclass(eq=False)
class _Dtype:
    code: str
    order: str = "<"

    @property
    def numpy(self) -> np.dtype:
        return np.dtype((self.order if self.order in "<>" else "<") + self.code)


@dataclass(eq=False)
class PickledArray:
    """A numpy array as it stands in the file; its value comes in a second step."""

    value: np.ndarray | None = None


@dataclass(eq=False)
class _Storage:
    value: np.ndarray


@dataclass(frozen=True, eq=False)
class _Name:
    """An allowed name of a pickle and what we make of a call to it."""

    text: str
    make: Callable[[_Machine, tuple[Any, ...]], Any]


@dataclass
class _Budget:
    left: int = MOST_STEPS


def read_pickle(path: str | Path) -> Any:
    """Read a network pickle as inert data.

    Args:
        path: A .pkl written by stylegan2-ada-pytorch, stylegan3, or code that grew from them.

    Returns:
        Dictionaries, lists, texts and numbers; `PickledModule` for networks; read-only arrays for tensors.

    Raises:
        SnapshotError: Missing, empty, truncated, no pickle, or one that asks for anything beyond tensors and
            plain values. Nothing that it names has been imported or called.
    """
    path = Path(path)
    try:
        size = path.stat().st_size
        if size > LARGEST_FILE:
            raise SnapshotError("too large for a network pickle", file=path, found=f"{size} bytes")
        data = path.read_bytes()
    except OSError as error:
        raise SnapshotError(f"cannot be read: {error.strerror}", file=path) from None
    if not data:
        raise SnapshotError("the file is empty", file=path, expected="a network pickle")
    if data[:1] != pickle.PROTO:
        raise SnapshotError(
            "not a network pickle", file=path, expected="a .pkl of stylegan2-ada-pytorch or stylegan3"
        )
    return _Machine(data, 0, _NAMES, _Budget(), path).run()


class _Machine:
    """Reads one pickle out of `data`, from `position` on."""

    def __init__(
        self, data: bytes, position: int, names: Mapping[str, _Name], budget: _Budget, path: Path
    ) -> None:
        self.data, self.position, self.names, self.budget, self.path = data, position, names, budget, path
        self.stack: list[Any] = []
        self.outer: list[list[Any]] = []  # the stacks below the marks
        self.memo: dict[int, Any] = {}

    def refuse(self, why: str, **details: Any) -> NoReturn:
        """Stop reading, saying why and where."""
        raise SnapshotError(
            f"refused: {why}", file=self.path, field=f"byte {self.position}", **details
        ) from None

    def spend(self, steps: int) -> None:
        """Account for work that does not follow from the file's length."""
        self.budget.left -= steps
        if self.budget.left < 0:
            self.refuse("more steps than any network needs", expected=f"at most {MOST_STEPS}")

    def run(self) -> Any:
        """The pickled value; `position` is then behind it."""
        while True:
            self.spend(1)
            op = self.take(1)
            if op == pickle.STOP:
                if len(self.stack) != 1 or self.outer:
                    self.refuse("malformed pickle: it ends with an unfinished value")
                return self.stack.pop()
            action = _ACTIONS.get(op)
            if action is None:
                code = op.decode("latin-1")
                known = next((o.name for o in pickletools.opcodes if o.code == code), repr(op))
                self.refuse(
                    f"opcode {known}, which network pickles do not use",
                    hint="The file is damaged, or made to do harm",
                )
            try:
                action(self)
            except _MALFORMED as error:
                self.refuse(f"malformed pickle: {type(error).__name__} at this opcode")

    def take(self, count: int) -> bytes:
        """The next bytes of the file."""
        end = self.position + count
        if count < 0 or end > len(self.data):
            self.refuse("truncated, or it declares more bytes than the file has")
        part = self.data[self.position : end]
        self.position = end
        return part

    def number(self, form: str) -> int:
        """The next fixed-size number, little endian."""
        return struct.unpack("<" + form, self.take(struct.calcsize(form)))[0]

    def line(self) -> str:
        """A text up to the end of its line: half of a name."""
        end = self.data.find(b"\n", self.position, self.position + _LONGEST_NAME)
        if end < 0:
            self.refuse("a name without end")
        text = self.take(end - self.position).decode()
        self.position += 1
        return text

    def push(self, value: Any) -> None:
        """Put a value on the stack."""
        self.stack.append(value)

    def marked(self) -> list[Any]:
        """The values above the last mark, taken off the stack."""
        items, self.stack = self.stack, self.outer.pop()
        return items

    def popped(self, count: int) -> tuple[Any, ...]:
        """The upper values, taken off the stack."""
        if count > len(self.stack):
            raise IndexError
        items = tuple(self.stack[len(self.stack) - count :])
        del self.stack[len(self.stack) - count :]
        return items

    def lookup(self, module: Any, name: Any) -> None:
        """Push what stands for a name; the name itself is never imported."""
        if not (isinstance(module, str) and isinstance(name, str)):
            self.refuse("a name that is no text")
        text = f"{module}.{name}"[:_LONGEST_NAME]
        if text not in self.names:
            tensorflow = "tflib" in text or "tfutil" in text
            self.refuse(
                f"it asks for {text!r}, which no network pickle needs",
                hint=(
                    "A TensorFlow pickle: convert it with the official tools first"
                    if tensorflow
                    else "Nothing was run. Do not open this file with other tools unless you trust its author"
                ),
            )
        self.push(self.names[text])

    def call(self) -> None:
        """REDUCE and NEWOBJ: our own function in place of the one that is named."""
        function, arguments = self.popped(2)
        if not isinstance(function, _Name) or type(arguments) is not tuple:
            self.refuse("a call of something that is not a name")
        try:
            self.push(function.make(self, arguments))
        except _MALFORMED:
            self.refuse(f"unusable arguments of {function.text!r}")

    def build(self) -> None:
        """BUILD: only what is known to come in two steps."""
        target, state = self.popped(2)
        if isinstance(target, _Dtype):
            if state[1] not in ("<", ">", "|", "="):
                raise ValueError
            target.order = state[1]
        elif isinstance(target, PickledArray):
            _, shape, dtype, fortran, data = state
            target.value = _array(data, dtype, shape, "F" if fortran else "C")
        elif isinstance(target, PickledModule) and not target.state and type(state) is dict:
            target.state = state
        elif state is not None and state != {}:
            self.refuse(f"it sets the state of a {type(target).__name__}")
        self.push(target)

    def store(self, pairs: list[Any]) -> None:
        """Key, value, key, value … into the dictionary on top of the stack."""
        target = self.stack[-1]
        if type(target) is not dict or len(pairs) % 2:
            self.refuse(f"it sets items of a {type(target).__name__}")
        for key, value in zip(pairs[::2], pairs[1::2]):
            target[_key(key)] = value

    def extend(self, items: list[Any]) -> None:
        """Values into the list on top of the stack."""
        target = self.stack[-1]
        if type(target) is not list:
            self.refuse(f"it appends to a {type(target).__name__}")
        target.extend(items)

    def add(self, items: list[Any]) -> None:
        """Values into the set on top of the stack."""
        target = self.stack[-1]
        if type(target) is not set:
            self.refuse(f"it adds to a {type(target).__name__}")
        target.update(_key(item) for item in items)

    def integer(self, count: int) -> int:
        """A number of any length; lengths beyond reason are refused before it is computed."""
        if not 0 <= count <= _LONGEST_INTEGER:
            self.refuse("an integer of unreasonable length", found=f"{count} bytes")
        return int.from_bytes(self.take(count), "little", signed=True)

    def persistent(self) -> None:
        """BINPERSID, in storages only: ("storage", type, key, device, length, no view)."""
        (ident,) = self.popped(1)
        if self.names is not _STORAGE_NAMES:
            self.refuse("opcode BINPERSID, which network pickles do not use")
        if type(ident) is not tuple or len(ident) != 6 or ident[0] != "storage" or ident[5] is not None:
            self.refuse("a storage that is not described in torch's way")
        self.push(ident)


def _key(value: Any) -> str | int:
    """Keys are texts or small numbers: nothing whose hash takes long, or can be made to equal a thousand
    others."""
    if not isinstance(value, str) and not (isinstance(value, int) and abs(value) < 2**31):
        raise TypeError
    return value


def _array(data: Any, dtype: Any, shape: Any, order: Any) -> np.ndarray:
    """A numpy array of the file's own bytes."""
    if not (isinstance(data, bytes) and isinstance(dtype, _Dtype) and type(shape) is tuple):
        raise TypeError
    if len(shape) > _MOST_DIMENSIONS or any(type(n) is not int or n < 0 for n in shape):
        raise ValueError
    return np.frombuffer(data, dtype.numpy).reshape(shape, order="F" if order == "F" else "C")


def _scalar(_: _Machine, arguments: tuple[Any, ...]) -> Any:
    dtype, data = arguments
    return _array(data, dtype, (1,), "C").item()


def _dtype(_: _Machine, arguments: tuple[Any, ...]) -> _Dtype:
    code = arguments[0]
    if not isinstance(code, str) or code not in _DTYPES:
        raise ValueError
    return _Dtype(code)


def _from_buffer(_: _Machine, arguments: tuple[Any, ...]) -> PickledArray:
    data, dtype, shape, order = arguments
    return PickledArray(_array(data, dtype, shape, order))


def _module(_: _Machine, arguments: tuple[Any, ...]) -> PickledModule:
    """A persistent object of the official code; its `module_src` is left where it is."""
    (meta,) = arguments
    if meta["type"] != "class" or not isinstance(meta["class_name"], str) or type(meta["state"]) is not dict:
        raise TypeError
    if len(meta["class_name"]) > _LONGEST_NAME:
        raise ValueError
    return PickledModule(meta["class_name"], meta["state"])


def _dictionary(machine: _Machine, arguments: tuple[Any, ...]) -> dict[Any, Any]:
    (pairs,) = arguments or ((),)
    machine.spend(len(pairs))
    return {_key(key): value for key, value in (pairs.items() if type(pairs) is dict else pairs)}


def _set(machine: _Machine, arguments: tuple[Any, ...]) -> set[Any]:
    (items,) = arguments or ((),)
    machine.spend(len(items))
    return {_key(item) for item in items}


def _latin(machine: _Machine, arguments: tuple[Any, ...]) -> bytes:
    """How protocol 2 writes bytes."""
    text, encoding = arguments
    if encoding != "latin1":
        raise ValueError
    machine.spend(len(text) // 64)
    return text.encode("latin-1")


def _storage(machine: _Machine, arguments: tuple[Any, ...]) -> _Storage:
    """The numbers inside the bytes that torch wrote for one storage; they are read here, torch is not
    asked."""
    (data,) = arguments
    if not isinstance(data, bytes):
        raise TypeError
    reader = _Machine(data, 0, _STORAGE_NAMES, machine.budget, path=machine.path)
    values = []
    for _ in range(5):
        reader.stack, reader.outer, reader.memo = [], [], {}
        values.append(reader.run())
    magic, protocol, system, (_, kind, key, _, length, _), keys = values
    if type(key) is not str or type(keys) is not list or [type(k) for k in keys[:2]] != [str]:
        raise TypeError  # before anything is compared: equality of what is nested could take for ever
    if (magic, protocol) != (_TORCH_MAGIC, _TORCH_PROTOCOL) or not system["little_endian"] or keys != [key]:
        machine.refuse("a storage that torch did not write")
    if reader.number("q") != length or length < 0:
        raise ValueError
    dtype = np.dtype(_STORAGES[kind.text.removeprefix("torch.")])
    # a view, not a copy: a file may name the same bytes ten thousand times
    return _Storage(np.frombuffer(data, dtype, length, reader.position) if length else np.zeros(0, dtype))


def _tensor(machine: _Machine, arguments: tuple[Any, ...]) -> np.ndarray:
    """A view of a storage, checked to lie inside it and to hold no more numbers than it."""
    storage, offset, size, stride = arguments[:4]
    if not isinstance(storage, _Storage) or type(size) is not tuple or type(stride) is not tuple:
        raise TypeError
    if len(size) != len(stride) or len(size) > _MOST_DIMENSIONS:
        raise ValueError
    if any(type(n) is not int or n < 0 for n in (offset, *size, *stride)):
        raise ValueError
    held, count = storage.value.size, prod(size)
    last = offset + sum((n - 1) * step for n, step in zip(size, stride))
    if count > held or (count and last >= held):
        machine.refuse(
            "a tensor larger than its storage", found=f"{size}", expected=f"at most {held} numbers"
        )
    step = storage.value.itemsize
    view = np.lib.stride_tricks.as_strided(
        storage.value[offset:], size, [s * step for s in stride], writeable=False
    )
    return view if count else np.zeros(size, storage.value.dtype)


def _names(table: Mapping[str, Callable[[_Machine, tuple[Any, ...]], Any]]) -> dict[str, _Name]:
    return {text: _Name(text, make) for text, make in table.items()}


def _inert(machine: _Machine, _: tuple[Any, ...]) -> NoReturn:
    machine.refuse("a call of a class that is only ever named")


_NAMES = _names(
    {
        "torch_utils.persistence._reconstruct_persistent_obj": _module,
        "dnnlib.util.EasyDict": _dictionary,
        "collections.OrderedDict": _dictionary,
        "builtins.set": _set,
        "__builtin__.set": _set,
        "_codecs.encode": _latin,
        "torch.Size": lambda _, arguments: arguments[0],
        "torch.storage._load_from_bytes": _storage,
        "torch._utils._rebuild_tensor_v2": _tensor,
        "torch._utils._rebuild_parameter": lambda _, arguments: arguments[0],
        "torch._utils._rebuild_parameter_with_state": lambda _, arguments: arguments[0],
        "numpy.dtype": _dtype,
        "numpy.ndarray": _inert,
    }
    | {f"numpy.{core}.multiarray.scalar": _scalar for core in ("core", "_core")}
    | {f"numpy.{core}.multiarray._reconstruct": lambda _, __: PickledArray() for core in ("core", "_core")}
    | {f"numpy.{core}.numeric._frombuffer": _from_buffer for core in ("core", "_core")}
    | {
        f"torch.nn.modules.container.{kind}": lambda _, __, kind=kind: PickledModule(kind)
        for kind in ("Sequential", "ModuleList", "ModuleDict")
    }
)
_STORAGE_NAMES = _names({f"torch.{kind}": _inert for kind in _STORAGES})


def _skip_protocol(m: _Machine) -> None:
    version = m.number("B")
    if not 2 <= version <= pickle.HIGHEST_PROTOCOL:
        m.refuse("unknown pickle protocol", found=version, expected=f"2 to {pickle.HIGHEST_PROTOCOL}")


def _frame(m: _Machine) -> None:
    if m.number("Q") > len(m.data) - m.position:
        m.refuse("truncated, or it declares more bytes than the file has")


def _mark(m: _Machine) -> None:
    m.outer.append(m.stack)
    m.stack = []


def _remember(m: _Machine, index: int) -> None:
    m.memo[index] = m.stack[-1]


def _global(m: _Machine) -> None:
    module = m.line()
    m.lookup(module, m.line())


def _text(m: _Machine, form: str) -> None:
    m.push(m.take(m.number(form)).decode("utf-8", "surrogatepass"))


_ACTIONS: dict[bytes, Callable[[_Machine], Any]] = {
    pickle.PROTO: _skip_protocol,
    pickle.FRAME: _frame,
    pickle.MARK: _mark,
    pickle.POP: lambda m: m.popped(1),
    pickle.POP_MARK: lambda m: m.marked(),
    pickle.NONE: lambda m: m.push(None),
    pickle.NEWTRUE: lambda m: m.push(True),
    pickle.NEWFALSE: lambda m: m.push(False),
    pickle.BININT: lambda m: m.push(m.number("i")),
    pickle.BININT1: lambda m: m.push(m.number("B")),
    pickle.BININT2: lambda m: m.push(m.number("H")),
    pickle.LONG1: lambda m: m.push(m.integer(m.number("B"))),
    pickle.LONG4: lambda m: m.push(m.integer(m.number("i"))),
    pickle.BINFLOAT: lambda m: m.push(struct.unpack(">d", m.take(8))[0]),
    pickle.SHORT_BINUNICODE: lambda m: _text(m, "B"),
    pickle.BINUNICODE: lambda m: _text(m, "I"),
    pickle.BINUNICODE8: lambda m: _text(m, "Q"),
    pickle.SHORT_BINBYTES: lambda m: m.push(m.take(m.number("B"))),
    pickle.BINBYTES: lambda m: m.push(m.take(m.number("I"))),
    pickle.BINBYTES8: lambda m: m.push(m.take(m.number("Q"))),
    pickle.BYTEARRAY8: lambda m: m.push(m.take(m.number("Q"))),
    pickle.EMPTY_DICT: lambda m: m.push({}),
    pickle.EMPTY_LIST: lambda m: m.push([]),
    pickle.EMPTY_SET: lambda m: m.push(set()),
    pickle.EMPTY_TUPLE: lambda m: m.push(()),
    pickle.TUPLE: lambda m: m.push(tuple(m.marked())),
    pickle.TUPLE1: lambda m: m.push(m.popped(1)),
    pickle.TUPLE2: lambda m: m.push(m.popped(2)),
    pickle.TUPLE3: lambda m: m.push(m.popped(3)),
    pickle.APPEND: lambda m: m.extend(list(m.popped(1))),
    pickle.APPENDS: lambda m: m.extend(m.marked()),
    pickle.SETITEM: lambda m: m.store(list(m.popped(2))),
    pickle.SETITEMS: lambda m: m.store(m.marked()),
    pickle.ADDITEMS: lambda m: m.add(m.marked()),
    pickle.MEMOIZE: lambda m: _remember(m, len(m.memo)),
    pickle.BINPUT: lambda m: _remember(m, m.number("B")),
    pickle.LONG_BINPUT: lambda m: _remember(m, m.number("I")),
    pickle.BINGET: lambda m: m.push(m.memo[m.number("B")]),
    pickle.LONG_BINGET: lambda m: m.push(m.memo[m.number("I")]),
    pickle.GLOBAL: _global,
    pickle.STACK_GLOBAL: lambda m: m.lookup(*m.popped(2)),
    pickle.REDUCE: lambda m: m.call(),
    pickle.NEWOBJ: lambda m: m.call(),
    pickle.BUILD: lambda m: m.build(),
    pickle.BINPERSID: lambda m: m.persistent(),
}
