"""Functions for loader workers to run in tests; a worker must be able to import them."""

import dataclasses
import os
import signal
import sys
import time
from typing import Any

import numpy as np

HEAVY_MODULES = ("jax", "jaxlib", "flax", "orbax", "tensorflow")


def square(item: int) -> int:
    return item * item


def slow_when_even(item: int) -> int:
    time.sleep(0.05 if item % 2 == 0 else 0)
    return item


def process_id(item: Any) -> int:
    return os.getpid()


def chatty(item: int) -> int:
    print("text on standard output")
    return item


def fail_at_three(item: int) -> int:
    if item == 3:
        raise ZeroDivisionError("three")
    return item


def end_of_file(item: int) -> int:
    raise EOFError("the function's own")


class OddError(Exception):
    """Cannot be unpickled: its constructor takes more than its args."""

    def __init__(self, first: str, second: str) -> None:
        super().__init__(first)


def raise_odd(item: int) -> int:
    raise OddError("one", "two")


def die_at_three(item: int) -> int:
    if item == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return item


def leave_at_three(item: int) -> int:
    if item == 3:
        os._exit(7)
    return item


def write_pid_and_sleep(path: str) -> None:
    with open(path + ".tmp", "w") as file:
        file.write(str(os.getpid()))
    os.rename(path + ".tmp", path)
    time.sleep(120)


@dataclasses.dataclass(frozen=True)
class WithModules:
    """Makes a sample and adds how many heavy modules the process has imported, and its process id."""

    make_sample: Any

    def __call__(self, image_id: str, rng: np.random.Generator) -> dict[str, np.ndarray]:
        sample = self.make_sample(image_id, rng)
        heavy = sum(name in sys.modules for name in HEAVY_MODULES)
        return {**sample, "heavy": np.asarray(heavy), "pid": np.asarray(os.getpid())}


@dataclasses.dataclass(frozen=True)
class Numbers:
    """A sample that is a random number, so that streams can be compared without images."""

    def __call__(self, image_id: str, rng: np.random.Generator) -> dict[str, np.ndarray]:
        return {"id": np.asarray(int(image_id)), "value": rng.random(2)}


@dataclasses.dataclass(frozen=True)
class DiesAt:
    """Kills its own process at one image."""

    image_id: str

    def __call__(self, image_id: str, rng: np.random.Generator) -> dict[str, np.ndarray]:
        if image_id == self.image_id:
            os.kill(os.getpid(), signal.SIGKILL)
        return {"value": rng.random(1)}
