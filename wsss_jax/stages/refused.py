"""Images whose CAMs cannot be used: told by name, without keeping the others from being done."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypeVar

from wsss_jax.refinement.jobs import Refused

Result = TypeVar("Result")
_SHOWN = 3  # refused images that the last message quotes; all are in the log


def without_refused(
    results: Iterable[Sequence[Result | Refused]], refused: list[Refused], say: Callable[[str], None]
) -> Iterator[list[Result]]:
    """Passes on what was done; says what was refused and gathers it in `refused`."""
    for several in results:
        for result in several:
            if isinstance(result, Refused):
                say(f"refused: {result.reason}")
                refused.append(result)
        yield [result for result in several if not isinstance(result, Refused)]


def refusal(name: str, refused: Sequence[Refused], total: int) -> str:
    """What a stage says at its end."""
    reasons = "; ".join(result.reason for result in refused[:_SHOWN])
    more = f"; and {len(refused) - _SHOWN} more in logs/log.txt" if len(refused) > _SHOWN else ""
    return f"{name}: {len(refused)} of {total} images were refused, the others are done: {reasons}{more}"
