"""A system that trains one task and makes maps of it."""

from wsss_jax.task import CamRule, Task


class Method(Task, CamRule):
    """A task and the rule for its maps."""
