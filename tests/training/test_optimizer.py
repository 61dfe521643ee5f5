"""The optimiser against psa's, quirks included."""

import jax.numpy as jnp
import numpy as np
import optax

from tests.helpers.golden import GOLDEN
from wsss_jax.training.optimizer import groups, polynomial_schedule, polynomial_sgd


def test_parameters_and_rates_follow_psa_step_by_step():
    golden = np.load(GOLDEN / "optim.npz")
    names = list(groups())  # pretrained, its biases, new, its biases: rates x1, x2, x10, x20
    params = {name: jnp.asarray(row) for name, row in zip(names, golden["start"], strict=True)}
    settings = {"learning_rate": float(golden["lr"]), "power": 0.9, "max_step": int(golden["max_step"])}
    # The momentum really is the number meant as weight decay; see polynomial_sgd.
    decay = float(golden["weight_decay"])
    optimizer = polynomial_sgd({n: n for n in names}, momentum=decay, weight_decay=decay, **settings)
    state = optimizer.init(params)
    for step, (grads, after, rates) in enumerate(
        zip(golden["grads"], golden["after"], golden["lrs"], strict=True)
    ):
        for name, rate in zip(names, rates, strict=True):
            schedule = polynomial_schedule(
                groups()[name][0] * settings["learning_rate"], settings["max_step"], 0.9
            )
            np.testing.assert_allclose(schedule(step), rate, rtol=1e-5)
        updates, state = optimizer.update(dict(zip(names, jnp.asarray(grads), strict=True)), state, params)
        params = optax.apply_updates(params, updates)
        np.testing.assert_allclose(np.stack([params[n] for n in names]), after, rtol=1e-5, atol=1e-6)


def test_frozen_parameters_would_be_refused():
    optimizer = polynomial_sgd(
        {"a": "frozen"}, learning_rate=1.0, momentum=0.0, weight_decay=0.0, power=1.0, max_step=2
    )
    with np.testing.assert_raises(ValueError):
        optimizer.init({"a": jnp.ones(2)})
