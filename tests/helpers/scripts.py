"""Running code in a fresh interpreter, with this one's module search path and nothing of its state."""

import sys


def command(code: str) -> list[str]:
    """Returns the command line that runs the code."""
    return [sys.executable, "-c", f"import sys\nsys.path[:] = {sys.path!r}\n{code}"]
