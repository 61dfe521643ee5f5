"""Learning rates by step."""

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.helpers.golden import GOLDEN
from wsss_jax.training.schedules import polynomial, warmup_polynomial


def test_polynomial_by_hand():
    rate = polynomial(0.1, 4, 2.0)
    found = [float(rate(step)) for step in range(6)]
    np.testing.assert_allclose(found, [0.1, 0.1 * 9 / 16, 0.1 / 4, 0.1 / 16, 0.1 / 16, 0.1 / 16], rtol=1e-6)


def test_the_last_of_many_steps_has_its_exact_rate():
    """In float32, 1 - 19999 / 20000 is 3e-4 off."""
    np.testing.assert_allclose(polynomial(1.0, 20_000, 1.0)(19_999), 1 / 20_000, rtol=1e-6)


def test_a_rate_may_stay_for_ten_steps_as_deeplabs_does():
    """Iterations count from 1 there, and iterations 1 to 10 use the first rate."""
    rate = polynomial(2.5e-4, 20_000, 0.9, every=10)
    wanted = {0: 0, 8: 0, 9: 0, 10: 10, 19: 10, 20: 20, 19_989: 19_980, 19_990: 19_990, 19_999: 19_990}
    for step, since in wanted.items():
        np.testing.assert_allclose(rate(step), 2.5e-4 * (1 - since / 20_000) ** 0.9, rtol=1e-5)


@pytest.mark.parametrize("case", ["", "power09_"])
def test_warmup_is_that_of_afa(case):
    golden = np.load(GOLDEN / "optim_adamw.npz")
    rate, _, _, _, _, warmup, last, ratio, power = golden[f"{case}hyper"].tolist()
    schedule = warmup_polynomial(rate, int(last), power, warmup_steps=int(warmup), warmup_ratio=ratio)
    wanted = golden[f"{case}lr"][:, 0]
    found = [float(schedule(step)) for step in range(len(wanted))]
    np.testing.assert_allclose(found, wanted, rtol=1e-5)


def test_the_polynomial_counts_from_the_start_of_the_warmup():
    """AFA's on VOC: the rate drops by 7.5 % where the warm-up ends."""
    rate = warmup_polynomial(1.0, 20_000, 1.0, warmup_steps=1500, warmup_ratio=1e-6)
    np.testing.assert_allclose([rate(1499), rate(1500)], [1499 / 1500, 0.925], rtol=1e-5)


def test_no_warmup_is_the_polynomial():
    schedule = warmup_polynomial(0.1, 9, 0.9, warmup_steps=0, warmup_ratio=0.5)
    np.testing.assert_array_equal(schedule(0), polynomial(0.1, 9, 0.9)(0))


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 50), st.integers(1, 12))
def test_rates_are_the_formulas_and_never_rise(max_step, every):
    rates = np.asarray(polynomial(0.1, max_step, 0.9, every)(jnp.arange(60)))
    last = np.minimum(np.arange(60), max_step - 1)
    np.testing.assert_allclose(rates, 0.1 * (1 - (last - last % every) / max_step) ** 0.9, rtol=1e-5)
    assert (np.diff(rates) <= 0).all() and rates.min() > 0
