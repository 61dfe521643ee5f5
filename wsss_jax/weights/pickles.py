"""A pickle reader that can only build plain containers.

Python's own unpickler calls whatever a file names. This one interprets the opcodes that PyTorch's files use
and builds dictionaries, lists, tuples and numbers; a global name is looked up in a table of harmless
stand-ins and refused, by name, when it is not there. Nothing from the file is ever imported or called.
"""

import inspect
import struct
from collections.abc import Callable, Mapping
from typing import Any

from wsss_jax.errors import CheckpointError
from wsss_jax.weights.files import WeightFile

# An optimiser's state of a large network takes some ten thousand operations.
MAX_OPERATIONS = 1_000_000
_MAX_NAME = 512
# A value may be handed to many stand-ins, each of which may copy it, so that without a bound a megabyte could
# become terabytes. Sound files hand on each value once: together at most as much as the pickle is long.
_HANDED_FACTOR = 2
_HANDED_SLACK = 1 << 16
# Below this, integers hash to themselves, and no file can choose keys that all collide.
_MAX_KEY = 1 << 60


class RefusedError(ValueError):
    """Raised by stand-ins; becomes a CheckpointError that tells the place."""


class Callee:
    """Stand-in for a global that a pickle may call, with positional arguments."""

    def __init__(self, build: Callable[..., Any]):
        self._build, self._signature = build, inspect.signature(build)

    def __call__(self, *arguments: Any) -> Any:
        """What the stand-in makes of them; RefusedError if they are too few or too many."""
        try:
            self._signature.bind(*arguments)
        except TypeError as error:
            raise RefusedError(f"a constructor is called wrongly: {error}") from error
        return self._build(*arguments)


class Stateful:
    """Stand-in for an object that is given its content after it is made."""

    def set_state(self, state: Any) -> None:
        """Takes the content; RefusedError if it is not as it should be."""
        raise NotImplementedError


def unpickle(
    file: WeightFile,
    start: int,
    end: int,
    allowed: Mapping[tuple[str, str], Any],
    persistent: Callable[[Any, int], Any],
) -> tuple[Any, int]:
    """Reads one pickle.

    Args:
      file: the file that holds it.
      start: offset of its first byte.
      end: offset that it must not reach beyond.
      allowed: (module, name) -> what stands for it; a `Callee` may be called, anything else is only handed
        on.
      persistent: makes the object of a persistent id, given the id and its offset.

    Returns:
      The object and the offset behind the pickle.

    Raises:
      CheckpointError: a global or an opcode that is not allowed, or a damaged pickle.
    """
    return _Machine(file, start, end, allowed, persistent).run()


def check_key(key: Any) -> Any:
    """Returns a dictionary key; raises RefusedError unless it is a string, a number or None."""
    if key is not None and type(key) not in (str, bytes, int, float, bool):
        raise RefusedError("a dictionary key is neither a string nor a number")
    if type(key) is int and abs(key) > _MAX_KEY:
        raise RefusedError("a dictionary key is an extremely large number")
    return key


class _Machine:
    """The stack machine that a pickle is a program for."""

    def __init__(
        self,
        file: WeightFile,
        start: int,
        end: int,
        allowed: Mapping[tuple[str, str], Any],
        persistent: Callable[[Any, int], Any],
    ):
        self.file = file
        self.start = self.at = self.operation = start
        self.end = end
        self.allowed = allowed
        self.persistent = persistent
        self.handed = 0
        self.stack: list[Any] = []
        self.outer: list[list[Any]] = []  # the stacks below each open mark
        self.memo: dict[int, Any] = {}

    def run(self) -> tuple[Any, int]:
        for _ in range(MAX_OPERATIONS):
            self.operation = self.at
            code = self.take(1)
            if code == b".":
                return self.pop(), self.at
            action = _ACTIONS.get(code)
            if action is None:
                raise self.error(f"opcode {code!r} does not occur in PyTorch's files")
            try:
                action(self)
            except RefusedError as error:
                raise self.error(str(error)) from error
        raise self.error(f"the pickle has more than {MAX_OPERATIONS} operations")

    def error(self, reason: str) -> CheckpointError:
        return self.file.error(self.operation, reason)

    def take(self, size: int) -> bytes:
        if self.at + size > self.end:
            raise self.error("the pickle is cut off")
        self.at += size
        return self.file.read(self.at - size, size, "the pickle")

    def number(self, layout: str) -> Any:
        return struct.unpack(layout, self.take(struct.calcsize(layout)))[0]

    def text(self, layout: str) -> str:
        try:
            return self.take(self.number(layout)).decode("utf-8", "surrogatepass")
        except UnicodeDecodeError as error:
            raise RefusedError("a string is not UTF-8") from error

    def line(self) -> str:
        end = self.file.data.find(b"\n", self.at, min(self.end, self.at + _MAX_NAME))
        if end < 0:
            raise RefusedError("a global name does not end")
        raw = self.take(end + 1 - self.at)[:-1]
        return raw.decode("ascii", "backslashreplace")

    def push(self, value: Any) -> None:
        self.stack.append(value)

    def pop(self) -> Any:
        if not self.stack:
            raise self.error("the pickle takes more values than it made")
        return self.stack.pop()

    def top(self, kind: type, what: str) -> Any:
        if not self.stack or type(self.stack[-1]) is not kind:
            raise self.error(f"{what} needs a {kind.__name__}")
        return self.stack[-1]

    def marked(self) -> list[Any]:
        """The values above the last mark, which is closed."""
        if not self.outer:
            raise self.error("the pickle closes a mark that it did not open")
        values, self.stack = self.stack, self.outer.pop()
        return values

    def remember(self, index: int) -> None:
        if not self.stack:
            raise self.error("the pickle remembers a value that it did not make")
        self.memo[index] = self.stack[-1]

    def recall(self, index: int) -> None:
        if index not in self.memo:
            raise self.error(f"the pickle recalls value {index}, which it did not store")
        self.push(self.memo[index])

    def hand(self, values: tuple[Any, ...]) -> None:
        """Counts what stand-ins are given."""
        self.handed += sum(len(v) for v in values if type(v) in (str, bytes, list, tuple))
        if self.handed > _HANDED_FACTOR * (self.end - self.start) + _HANDED_SLACK:
            raise RefusedError("the pickle uses its values again and again")

    def find_global(self, module: str, name: str) -> None:
        if (module, name) not in self.allowed:
            raise self.error(
                f"the file asks for {module[:_MAX_NAME]!r} {name[:_MAX_NAME]!r}; only tensors and plain "
                "containers are read (save model.state_dict() alone if this is a whole model or an object of "
                "your own)"
            )
        self.push(self.allowed[module, name])


def _mark(machine: _Machine) -> None:
    machine.outer.append(machine.stack)
    machine.stack = []


def _duplicate(machine: _Machine) -> None:
    value = machine.pop()
    machine.stack += [value, value]


def _append(machine: _Machine) -> None:
    value = machine.pop()
    machine.top(list, "APPEND").append(value)


def _appends(machine: _Machine) -> None:
    values = machine.marked()
    machine.top(list, "APPENDS").extend(values)


def _set_item(machine: _Machine) -> None:
    value, key = machine.pop(), machine.pop()
    machine.top(dict, "SETITEM")[check_key(key)] = value


def _set_items(machine: _Machine) -> None:
    values = machine.marked()
    if len(values) % 2:
        raise machine.error("a dictionary entry lacks its value")
    machine.top(dict, "SETITEMS").update(zip(map(check_key, values[::2]), values[1::2], strict=True))


def _tuple(size: int) -> Callable[[_Machine], None]:
    def build(machine: _Machine) -> None:
        values = [machine.pop() for _ in range(size)]
        machine.push(tuple(reversed(values)))

    return build


def _reduce(machine: _Machine) -> None:
    arguments, callee = machine.pop(), machine.pop()
    if type(callee) is not Callee or type(arguments) is not tuple:
        raise machine.error("the pickle calls something that cannot be called")
    machine.hand(arguments)
    machine.push(callee(*arguments))


def _build(machine: _Machine) -> None:
    """Attributes given to an object, such as a state dict's `_metadata`; of no use to most."""
    state = machine.pop()
    if not machine.stack:
        raise machine.error("the pickle gives attributes to nothing")
    if isinstance(machine.stack[-1], Stateful):
        machine.hand(state if type(state) is tuple else (state,))
        machine.stack[-1].set_state(state)


def _protocol(machine: _Machine) -> None:
    version = machine.number("<B")
    if not 2 <= version <= 5:
        raise machine.error(f"pickle protocol {version} is not supported")


def _stack_global(machine: _Machine) -> None:
    name, module = machine.pop(), machine.pop()
    if type(name) is not str or type(module) is not str:
        raise machine.error("a global's name is no string")
    machine.find_global(module, name)


def _persistent(machine: _Machine) -> None:
    machine.push(machine.persistent(machine.pop(), machine.operation))


def _integer(layout: str) -> Callable[[_Machine], None]:
    def build(machine: _Machine) -> None:
        machine.push(int.from_bytes(machine.take(machine.number(layout)), "little", signed=True))

    return build


def _text(layout: str) -> Callable[[_Machine], None]:
    return lambda machine: machine.push(machine.text(layout))


def _raw(layout: str) -> Callable[[_Machine], None]:
    return lambda machine: machine.push(machine.take(machine.number(layout)))


def _number(layout: str) -> Callable[[_Machine], None]:
    return lambda machine: machine.push(machine.number(layout))


def _constant(value: Any) -> Callable[[_Machine], None]:
    return lambda machine: machine.push(value)


_ACTIONS: dict[bytes, Callable[[_Machine], Any]] = {
    b"\x80": _protocol,
    b"\x95": lambda machine: machine.take(8),  # FRAME: the length is advice
    b"(": _mark,
    b"0": _Machine.pop,
    b"1": _Machine.marked,
    b"2": _duplicate,
    b"N": _constant(None),
    b"\x88": _constant(True),
    b"\x89": _constant(False),
    b"J": _number("<i"),
    b"K": _number("<B"),
    b"M": _number("<H"),
    b"G": _number(">d"),
    b"\x8a": _integer("<B"),
    b"\x8b": _integer("<I"),
    b"X": _text("<I"),
    b"\x8c": _text("<B"),
    b"\x8d": _text("<Q"),
    b"T": _text("<I"),  # strings of Python 2
    b"U": _text("<B"),
    b"B": _raw("<I"),
    b"C": _raw("<B"),
    b"\x8e": _raw("<Q"),
    b"]": lambda machine: machine.push([]),
    b"a": _append,
    b"e": _appends,
    b"l": lambda machine: machine.push(machine.marked()),
    b"}": lambda machine: machine.push({}),
    b"s": _set_item,
    b"u": _set_items,
    b")": _constant(()),
    b"t": lambda machine: machine.push(tuple(machine.marked())),
    b"\x85": _tuple(1),
    b"\x86": _tuple(2),
    b"\x87": _tuple(3),
    b"c": lambda machine: machine.find_global(machine.line(), machine.line()),
    b"\x93": _stack_global,
    b"R": _reduce,
    b"b": _build,
    b"Q": _persistent,
    b"q": lambda machine: machine.remember(machine.number("<B")),
    b"r": lambda machine: machine.remember(machine.number("<I")),
    b"\x94": lambda machine: machine.remember(len(machine.memo)),
    b"h": lambda machine: machine.recall(machine.number("<B")),
    b"j": lambda machine: machine.recall(machine.number("<I")),
}
