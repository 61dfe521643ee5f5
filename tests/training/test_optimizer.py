"""The optimisers against psa's and AFA's, quirks included."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from tests.helpers.golden import GOLDEN
from wsss_jax.training.optimizer import adamw, polynomial_sgd, psa_groups, sgd
from wsss_jax.training.schedules import polynomial, warmup_polynomial


def run(optimizer, params, grads):
    """Yields the parameters after each step; `grads` are those of each step, by parameter."""
    state = optimizer.init(params)
    for gradient in grads:
        updates, state = optimizer.update(gradient, state, params)
        params = optax.apply_updates(params, updates)
        yield params


def test_parameters_and_rates_follow_psa_step_by_step():
    golden = np.load(GOLDEN / "optim.npz")
    groups = psa_groups()  # pretrained, its biases, new, its biases: rates x1, x2, x10, x20
    params = {name: jnp.asarray(row) for name, row in zip(groups, golden["start"], strict=True)}
    settings = {"learning_rate": float(golden["lr"]), "power": 0.9, "max_step": int(golden["max_step"])}
    # The momentum really is the number meant as weight decay; see polynomial_sgd.
    decay = float(golden["weight_decay"])
    optimizer = polynomial_sgd({n: n for n in groups}, momentum=decay, weight_decay=decay, **settings)
    grads = [dict(zip(groups, jnp.asarray(rows), strict=True)) for rows in golden["grads"]]
    for step, found in enumerate(run(optimizer, params, grads)):
        rates = [factor * polynomial(**settings)(step) for factor, _ in groups.values()]
        np.testing.assert_allclose(rates, golden["lrs"][step], rtol=1e-5)
        np.testing.assert_allclose(
            np.stack([found[n] for n in groups]), golden["after"][step], rtol=1e-5, atol=1e-6
        )


def test_momentum_by_hand():
    """v = 0.5 v + (g + 0.1 p) and p = p - 0.2 v, where v starts as the first gradient."""
    optimizer = sgd({"p": "a"}, {"a": (2, 0.5)}, optax.constant_schedule(0.1), momentum=0.5, weight_decay=0.2)
    found = [float(p["p"]) for p in run(optimizer, {"p": jnp.array(1.0)}, [{"p": jnp.array(1.0)}] * 3)]
    v1 = 1 + 0.1 * 1
    p1 = 1 - 0.2 * v1
    v2 = 0.5 * v1 + 1 + 0.1 * p1
    p2 = p1 - 0.2 * v2
    p3 = p2 - 0.2 * (0.5 * v2 + 1 + 0.1 * p2)
    np.testing.assert_allclose(found, [p1, p2, p3], rtol=1e-6)


AFA = {"encoder": (1, 1), "norms": (0, 0), "heads": (10, 1), "decoder": (10, 1)}


@pytest.mark.parametrize("case", ["", "power09_"])
def test_adamw_follows_afa_step_by_step(case):
    golden = np.load(GOLDEN / "optim_adamw.npz")
    rate, decay, b1, b2, epsilon, warmup, last, ratio, power = golden[f"{case}hyper"].tolist()
    schedule = warmup_polynomial(rate, int(last), power, warmup_steps=int(warmup), warmup_ratio=ratio)
    optimizer = adamw({n: n for n in AFA}, AFA, schedule, weight_decay=decay, b1=b1, b2=b2, epsilon=epsilon)
    by_name = {name: f"{case}%s{i}" for i, name in enumerate(AFA)}
    params = {name: golden[f"{key % 'param'}_init"] for name, key in by_name.items()}
    steps = len(golden[f"{case}lr"])
    grads = [{name: golden[key % "grad"][i] for name, key in by_name.items()} for i in range(steps)]
    for i, found in enumerate(run(optimizer, params, grads)):
        for name, key in by_name.items():
            np.testing.assert_allclose(found[name], golden[key % "param"][i], rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(found["norms"], params["norms"])
    assert not np.allclose(found["encoder"], params["encoder"], atol=1e-3)


def test_adamw_by_hand():
    """PyTorch's order: shrink, moments, both corrected, epsilon outside the root."""
    p, g, rate, decay, b1, b2, epsilon = 2.0, [3.0, -1.0, 0.5], 0.1, 0.3, 0.8, 0.9, 0.25
    settings = {"weight_decay": decay, "b1": b1, "b2": b2, "epsilon": epsilon}
    optimizer = adamw({"p": "a"}, {"a": (1, 1)}, optax.constant_schedule(rate), **settings)
    found = [float(x["p"]) for x in run(optimizer, {"p": jnp.array(p)}, [{"p": jnp.array(x)} for x in g])]
    m = v = 0.0
    for step, (gradient, after) in enumerate(zip(g, found, strict=True), 1):
        p -= rate * decay * p
        m, v = b1 * m + (1 - b1) * gradient, b2 * v + (1 - b2) * gradient**2
        p -= rate / (1 - b1**step) * m / (np.sqrt(v) / np.sqrt(1 - b2**step) + epsilon)
        np.testing.assert_allclose(after, p, rtol=1e-5)


@pytest.mark.parametrize(
    "make", [lambda *a: sgd(*a, momentum=0.9, weight_decay=0.1), lambda *a: adamw(*a, weight_decay=0.1)]
)
def test_at_rate_zero_nothing_moves_and_nothing_is_kept(make):
    groups = {"moves": (1, 1), "stays": (0, 1)}
    optimizer = make({"a": "moves", "b": "stays"}, groups, optax.constant_schedule(0.1))
    params = {"a": jnp.ones(3), "b": jnp.full(5, 7.0)}
    (found,) = run(optimizer, params, [{"a": jnp.ones(3), "b": jnp.full(5, jnp.nan)}])
    np.testing.assert_array_equal(found["b"], params["b"])
    assert (found["a"] < 1).all()
    assert all(x.shape != (5,) for x in jax.tree.leaves(optimizer.init(params)))


def test_a_parameter_in_no_group_is_refused():
    optimizer = sgd({"a": "frozen"}, psa_groups(), optax.constant_schedule(1.0), momentum=0, weight_decay=0)
    with pytest.raises(ValueError, match="frozen"):
        optimizer.init({"a": jnp.ones(2)})
