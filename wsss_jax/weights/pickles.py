"""A pickle reader that can only build plain containers, and calls only what a table has.

`pickle.Unpickler` itself would not do, even with `find_class` overridden: its C code hashes whatever a file
makes a key (tuples in tuples are a crash or 2^n steps), makes its memo as long as a number in the file, and
knows no smaller set of opcodes. The same machine in Python, its reference implementation, can be restricted.
"""

import pickle
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

from wsss_jax.weights.files import WeightFile

# An optimiser's state of a large network takes some ten thousand operations.
MAX_OPERATIONS = 1_000_000
_MAX_NAME = 512
# A value may be handed to many constructors, each of which may copy it, so that without a bound a megabyte
# could become terabytes. Sound files hand on each value once: together at most as much as the pickle is long.
_HANDED_FACTOR = 2
_HANDED_SLACK = 1 << 16
# Below this, integers hash to themselves, and no file can choose keys that all collide.
_MAX_KEY = 1 << 60
# Those of containers, texts, numbers, the memo and calls; none that makes an instance in another way.
_OPCODES = (
    b"\x80\x95(012N\x88\x89JKMG\x8a\x8bX\x8c\x8dTUBC\x8e]ael}su)t\x85\x86\x87c\x93RbQqr\x94hj"
)  # fmt: skip


class RefusedError(ValueError):
    """Raised by constructors; becomes a CheckpointError that tells the place."""


class Stateful:
    """An object that is given its content after it is made."""

    def set_state(self, state: Any) -> None:
        """Takes the content; any error if it is not as it should be."""
        raise NotImplementedError


def unpickle(
    file: WeightFile,
    start: int,
    end: int,
    allowed: Mapping[tuple[str, str], Any],
    persistent: Callable[[Any], Any],
) -> tuple[Any, int]:
    """Reads one pickle.

    Args:
      file: the file that holds it.
      start: offset of its first byte.
      end: offset that it must not reach beyond.
      allowed: (module, name) -> what stands for it; a function or class may be called, with positional
        arguments of any kind, anything else is only handed on.
      persistent: makes the object of a persistent id.

    Returns:
      The object and the offset behind the pickle.

    Raises:
      CheckpointError: a global or an opcode that is not allowed, or a damaged pickle.
    """
    machine = _Machine(file, start, end, allowed, persistent)
    try:
        return machine.load(), machine.at
    except RefusedError as error:
        raise file.error(machine.place, str(error)) from error
    # Every operation and constructor fails in its own way on values that it does not expect.
    except Exception as error:
        raise file.error(machine.place, f"damaged pickle ({type(error).__name__}: {error})") from error


def check_key(key: Any) -> Any:
    """Returns a dictionary key; raises RefusedError unless it is a string, a number or None."""
    if key is not None and type(key) not in (str, bytes, int, float, bool):
        raise RefusedError("a dictionary key is neither a string nor a number")
    if type(key) is int and abs(key) > _MAX_KEY:
        raise RefusedError("a dictionary key is an extremely large number")
    return key


_PythonUnpickler: Any = pickle._Unpickler  # whose stack typeshed does not know


class _Machine(_PythonUnpickler):
    """Python's unpickler, restricted: fewer opcodes, checked keys and calls, bounded work."""

    dispatch: ClassVar[dict[int, Any]] = {code: _PythonUnpickler.dispatch[code] for code in _OPCODES}

    def __init__(
        self,
        file: WeightFile,
        start: int,
        end: int,
        allowed: Mapping[tuple[str, str], Any],
        persistent: Callable[[Any], Any],
    ):
        self.file, self.at, self.end, self.allowed = file, start, end, allowed
        self.place = start  # of the current operation
        self.left_to_hand = _HANDED_FACTOR * (end - start) + _HANDED_SLACK
        self.persistent_load = persistent
        self.memo: dict[int, Any] = {}
        self.stack: list[Any] = []
        self.metastack: list[list[Any]] = []
        self.append = self.stack.append
        self.encoding, self.errors = "utf-8", "surrogatepass"  # of Python 2's strings

    def load(self) -> Any:
        for _ in range(MAX_OPERATIONS):
            self.place = self.at
            code = self.read(1)
            if code == pickle.STOP:
                return self.stack.pop()
            if code[0] not in self.dispatch:
                raise RefusedError(f"opcode {code!r} does not occur in PyTorch's files")
            self.dispatch[code[0]](self)
        raise RefusedError(f"the pickle has more than {MAX_OPERATIONS} operations")

    def read(self, size: int) -> bytes:
        if self.at + size > self.end:
            raise RefusedError("the pickle is cut off")
        self.at += size
        return self.file.read(self.at - size, size, "the pickle")

    def readline(self) -> bytes:
        end = self.file.data.find(b"\n", self.at, min(self.end, self.at + _MAX_NAME))
        if end < 0:
            raise RefusedError("a global name does not end")
        return self.read(end + 1 - self.at)

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in self.allowed:
            raise RefusedError(
                f"the file asks for {module[:_MAX_NAME]!r} {name[:_MAX_NAME]!r}; only tensors and plain "
                "containers are read (save model.state_dict() alone if this is a whole model or an object of "
                "your own)"
            )
        return self.allowed[module, name]

    def hand(self, values: tuple[Any, ...]) -> None:
        """Counts what constructors are given."""
        self.left_to_hand -= len(values) + sum(len(v) for v in values if hasattr(v, "__len__"))
        if self.left_to_hand < 0:
            raise RefusedError("the pickle uses its values again and again")

    def load_frame(self) -> None:
        self.read(8)  # a length, which is advice

    def load_reduce(self) -> None:
        arguments, build = self.stack.pop(), self.stack.pop()
        if not callable(build) or type(arguments) is not tuple:
            raise RefusedError("the pickle calls something that cannot be called")
        self.hand(arguments)
        self.append(build(*arguments))

    def load_build(self) -> None:
        """Attributes given to an object, such as a state dict's `_metadata`; of no use to most."""
        state, target = self.stack.pop(), self.stack[-1]
        if isinstance(target, Stateful):
            self.hand(state if type(state) is tuple else (state,))
            target.set_state(state)

    def load_setitem(self) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        self.set_items([key, value])

    def load_setitems(self) -> None:
        self.set_items(self.pop_mark())

    def set_items(self, items: list[Any]) -> None:
        target = self.stack[-1]
        if type(target) is not dict:
            raise RefusedError("SETITEM needs a dict")
        if len(items) % 2:
            raise RefusedError("a dictionary entry lacks its value")
        target.update(zip(map(check_key, items[::2]), items[1::2], strict=True))

    dispatch |= {
        pickle.FRAME[0]: load_frame,
        pickle.REDUCE[0]: load_reduce,
        pickle.BUILD[0]: load_build,
        pickle.SETITEM[0]: load_setitem,
        pickle.SETITEMS[0]: load_setitems,
    }
