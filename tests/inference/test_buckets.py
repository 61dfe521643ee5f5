"""Padded sizes: every image fits, they are few, and little is padding."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wsss_jax.inference.buckets import plan_buckets, scaled, smallest_bucket

SIDES = st.integers(1, 200)
LISTS = st.lists(st.tuples(SIDES, SIDES), min_size=1, max_size=30)


@given(LISTS, st.integers(1, 6))
def test_every_picture_fits_into_few_buckets(sizes, most):
    buckets = plan_buckets(sizes, most)
    assert 1 <= len(buckets) <= most
    assert len(set(buckets)) == len(buckets)
    for size in sizes:
        bucket = smallest_bucket(size, buckets)
        assert bucket in buckets and bucket[0] >= size[0] and bucket[1] >= size[1]


@given(LISTS, st.integers(1, 6))
def test_buckets_are_no_larger_than_needed_and_in_order_of_area(sizes, most):
    buckets = plan_buckets(sizes, most)
    areas = [h * w for h, w in buckets]
    assert areas == sorted(areas)
    assert max(h for h, _ in buckets) < max(h for h, _ in sizes) + 8
    assert max(w for _, w in buckets) < max(w for _, w in sizes) + 8


@given(LISTS)
def test_order_of_the_list_does_not_matter(sizes):
    assert plan_buckets(sizes, 3) == plan_buckets(sizes[::-1], 3)


def test_few_sizes_are_only_rounded():
    assert plan_buckets([(9, 8), (8, 17), (10, 8)], 2) == [(16, 8), (8, 24)]


def test_the_cheapest_pair_is_merged_first():
    """8 x 16 holds 8 x 8 for 64 pixels of padding; any other pair costs thousands."""
    assert plan_buckets([(8, 8), (8, 16), (80, 80)], 2) == [(8, 16), (80, 80)]


def test_a_frequent_size_keeps_its_bucket():
    """Alone, 80 x 80 and 80 x 88 would be merged first; a hundred of them would all be padded."""
    rare, odd = (80, 80), (64, 80)
    assert plan_buckets([rare, odd, (80, 88)], 2) == [(64, 80), (80, 88)]
    assert plan_buckets([rare] * 100 + [odd, (80, 88)], 2) == [(80, 80), (80, 88)]


def test_landscape_and_portrait_stay_apart():
    assert plan_buckets([(376, 500), (500, 376), (336, 500), (500, 336)], 2) == [(376, 504), (504, 376)]


def test_too_large_a_picture():
    with pytest.raises(ValueError, match=r"no bucket of \[\(8, 8\)\] holds an image of \(9, 8\)"):
        smallest_bucket((9, 8), [(8, 8)])


@given(
    st.tuples(SIDES, SIDES), st.tuples(SIDES, SIDES), st.sampled_from([0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 1 / 3])
)
def test_what_fits_still_fits_at_any_scale(first, second, scale):
    low = tuple(map(min, first, second))
    high = tuple(map(max, first, second))
    small, large = scaled(low, scale), scaled(high, scale)
    assert 1 <= small[0] <= large[0] and 1 <= small[1] <= large[1]


@pytest.mark.parametrize(
    ("size", "scale", "wanted"),
    [((5, 7), 0.5, (2, 4)), ((1, 1), 0.25, (1, 1)), ((375, 500), 1.5, (562, 750)), ((3, 4), 1.0, (3, 4))],
)
def test_sides_are_rounded_as_python_rounds(size, scale, wanted):
    assert scaled(size, scale) == wanted
