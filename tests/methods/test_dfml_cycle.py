"""Schedules and the peak rule, by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fedjax_kd.methods.dfml_cycle import (
    PeakMemory,
    Schedule,
    alpha_at,
    blank_memory,
    place_of,
    remember_peak,
)


def test_places_in_growing_cycles():
    """Cycles of 4, 6 and 8 rounds begin in rounds 0, 4 and 10."""
    schedule = Schedule("cosine", first_period=4, growth=2)
    places = [place_of(schedule, index) for index in (0, 3, 4, 9, 10, 17, 18)]
    got = [tuple(int(part) for part in place) for place in places]
    assert got == [
        (0, 0, 2, 4),
        (0, 3, 2, 4),
        (1, 0, 3, 6),
        (1, 5, 3, 6),
        (2, 0, 4, 8),
        (2, 7, 4, 8),
        (3, 0, 5, 10),
    ]


@pytest.mark.parametrize(
    ("schedule", "alphas"),
    [
        (Schedule("cosine", 4, 0), [0, 0.4, 0.8, 0.4, 0, 0.4, 0.8]),
        (Schedule("sawtooth", 5, 0), [0, 0.2, 0.4, 0.6, 0.8, 0, 0.2]),
        (Schedule("sawtooth", 2, 1), [0, 0.8, 0, 0.4, 0.8, 0]),
        (Schedule("constant"), [0.8] * 4),
    ],
)
def test_alpha_by_hand(schedule, alphas):
    def alpha(index):
        place = place_of(schedule, index)
        return alpha_at(schedule, place, place.round, jnp.asarray([0.8, 0.4]))

    got = np.stack([jax.jit(alpha)(jnp.int32(index)) for index in range(len(alphas))])
    np.testing.assert_allclose(got[:, 0], alphas, atol=1e-6)
    np.testing.assert_allclose(got[:, 1], 0.5 * got[:, 0], atol=1e-7)


def test_default_cycle_is_largest_in_its_middle():
    schedule = Schedule()
    place = place_of(schedule, 5)
    assert (int(place.peak), int(place.round)) == (5, 5)
    np.testing.assert_allclose(alpha_at(schedule, place, place.round, 1.0), 1.0, atol=1e-7)


SCRIPT = [
    # round, who takes part, alpha (cosine, 4 rounds a cycle, at most 1), refreshed
    (0, "abc", 0.0, "abc"),  # first ascent: everybody follows
    (1, "ab", 0.5, "ab"),
    (2, "a", 1.0, "a"),  # the first peak
    (3, "abd", 0.5, "bd"),  # b reaches its 0.5 again, a had 1; d is new
    (4, "ad", 0.0, ""),  # a new cycle: a forgets its 1, but 0 is under the floor
    (5, "ae", 0.5, "e"),  # under the floor; e is new, and has only its first draw to lose
    (6, "b", 1.0, "b"),
    (7, "ab", 0.5, ""),
    (8, "c", 0.0, ""),  # c has missed cycle 1 altogether
    (10, "cb", 1.0, "cb"),
]


def test_peak_rule_over_a_script():
    schedule, names = Schedule("cosine", 4, 0), "abcde"
    memory = blank_memory(5)
    for index, present, alpha, refreshed in SCRIPT:
        place = place_of(schedule, index)
        member = jnp.asarray([name in present for name in names])
        now = alpha_at(schedule, place, place.round, 1.0)
        highest = alpha_at(schedule, place, place.peak, 1.0)
        np.testing.assert_allclose(now, alpha, atol=1e-6)
        old = memory
        parts = (jnp.full(5, value) for value in (now, highest, jnp.float32(0.9)))
        memory, copied = remember_peak(memory, member, place, *parts)
        got = {name for name, was in zip(names, np.asarray(copied), strict=True) if was}
        assert got == set(refreshed), f"round {index}"
        away = ~np.asarray(member)
        for leaf, before in zip(jax.tree.leaves(memory), jax.tree.leaves(old), strict=True):
            np.testing.assert_array_equal(leaf[away], before[away])
    np.testing.assert_allclose(memory.alpha, [-1, 1, 1, -1, 0.5], atol=1e-6)
    np.testing.assert_array_equal(memory.cycle, [1, 2, 2, 1, 1])


def test_without_a_floor_a_new_cycle_overwrites_at_once():
    place = place_of(Schedule("cosine", 4, 0), 4)
    memory = PeakMemory(alpha=jnp.ones(1), cycle=jnp.zeros(1, jnp.int32))
    given = (jnp.ones(1, bool), place, jnp.zeros(1), jnp.ones(1))
    assert not remember_peak(memory, *given, jnp.full(1, 0.9))[1][0]
    assert remember_peak(memory, *given, jnp.zeros(1))[1][0]
