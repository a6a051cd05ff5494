"""Clipping and noise: norms, deviations, and what is drawn from which key."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fedjax_kd.exchange import (
    ClassTable,
    bits_of,
    clip_and_noise,
    rows_of_parameters,
    rows_of_table,
    traced_numbers,
    uniform,
)
from fedjax_kd.exchange.noise import ClipAndNoise

KEY = jax.random.key(2)
TREE = {"a": jnp.full((30, 40), 2.0), "b": jnp.full(500, -1.0)}


def send(channel, sent, key=KEY):
    return jax.jit(channel.send)(key, (), traced_numbers(channel), sent)[1]


def norm(sent) -> float:
    return float(np.sqrt(sum((np.asarray(x) ** 2).sum() for x in jax.tree.leaves(sent.values))))


def test_without_noise_an_upload_is_scaled_to_the_norm_and_no_further():
    sent = rows_of_parameters(TREE)
    long = norm(sent)
    clipped = send(clip_and_noise(3.0), sent)
    assert norm(clipped) == pytest.approx(3.0, rel=1e-5)
    np.testing.assert_allclose(clipped.values["a"], np.full((1, 1200), 2 * 3 / long), rtol=1e-5)
    kept = send(clip_and_noise(2 * long), sent)
    jax.tree.map(np.testing.assert_array_equal, kept.values, sent.values)
    nothing = jax.tree.map(jnp.zeros_like, TREE)
    assert norm(send(clip_and_noise(1.0), rows_of_parameters(nothing))) == 0


def test_noise_of_each_upload_has_the_deviation_of_multiplier_times_clip():
    nothing = jax.tree.map(lambda leaf: jnp.zeros((50, leaf.size)), TREE)
    out = send(clip_and_noise(2.0, 3.0), rows_of_parameters(nothing))
    drawn = np.concatenate([np.asarray(leaf).ravel() for leaf in jax.tree.leaves(out.values)])
    assert drawn.std() == pytest.approx(6.0, rel=0.02)
    assert abs(drawn.mean()) < 0.1
    a, b = (np.asarray(leaf).ravel()[:500] for leaf in jax.tree.leaves(out.values))
    assert abs(np.corrcoef(a, b)[0, 1]) < 0.15


def test_shares_of_noise_add_up_to_the_deviation_of_the_sum():
    nothing = rows_of_parameters({"a": jnp.zeros(20000)})
    channel = clip_and_noise(2.0, 3.0, 16, noise="share")
    keys = jax.vmap(lambda k: jax.random.fold_in(KEY, k))(jnp.arange(16))
    out = jax.vmap(lambda key: send(channel, nothing, key))(keys)
    each = np.asarray(out.values["a"])
    assert each[0].std() == pytest.approx(6.0 / 4, rel=0.02)
    assert each.sum(0).std() == pytest.approx(6.0, rel=0.02)


def test_absent_rows_are_hidden_or_left_out():
    table = ClassTable(
        totals=jnp.zeros((4, 3)).at[1].set(1.0),
        counts=jnp.array([0.0, 2.0, 0.0, 0.0]),
        round=jnp.int32(0),
    )
    sent = rows_of_table(table)
    hidden = send(clip_and_noise(1.0, 1.0), sent)
    assert np.asarray(hidden.rows).all()
    assert np.abs(np.asarray(hidden.values)).min() > 0
    assert float(bits_of(hidden)) == 4 * 4 * 32
    shown = send(clip_and_noise(1.0, 1.0, rows="present"), sent)
    np.testing.assert_array_equal(shown.rows, [False, True, False, False])
    assert np.count_nonzero(shown.values) == 4
    assert float(bits_of(shown)) == 4 * 32


def test_entries_outside_a_sub_model_stay_empty():
    mask = {"a": jnp.zeros((30, 40), bool).at[:10].set(True), "b": jnp.zeros(500, bool)}
    out = send(clip_and_noise(1.0, 1.0), rows_of_parameters(TREE, mask))
    assert np.count_nonzero(out.values["a"]) == 400
    assert np.count_nonzero(out.values["b"]) == 0


def test_another_key_draws_another_noise_and_the_same_key_the_same():
    sent = rows_of_parameters(TREE)
    one, again = (send(clip_and_noise(1.0, 1.0), sent) for _ in range(2))
    other = send(clip_and_noise(1.0, 1.0), sent, jax.random.key(3))
    jax.tree.map(np.testing.assert_array_equal, one.values, again.values)
    assert not np.array_equal(one.values["a"], other.values["a"])


def test_numbers_are_traced_and_may_differ_by_client():
    sent = rows_of_parameters({"a": jnp.zeros(5000)})
    numbers = ClipAndNoise(jnp.ones(3), jnp.array([0.0, 1.0, 2.0]), jnp.ones(3))
    channel = clip_and_noise()
    out = jax.vmap(lambda own: channel.send(KEY, (), own, sent)[1])(numbers)
    np.testing.assert_allclose(np.asarray(out.values["a"]).std((1, 2)), [0, 1, 2], rtol=0.05)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"clip": 0.0}, "clip: 0.0; allowed: above 0"),
        ({"multiplier": -1.0}, "multiplier: -1.0; allowed: at least 0"),
        ({"participants": 0}, "participants: 0; allowed: at least 1"),
        ({"noise": "some"}, "noise must be 'each' or 'share'; got 'some'"),
        ({"rows": "none"}, "rows must be 'all' or 'present'; got 'none'"),
    ],
)
def test_options_out_of_range_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        clip_and_noise(**options)


def test_a_table_is_clipped_row_by_row_and_keeps_its_counts():
    """Three classes, one absent: sqrt(clip^2 / 3 - 1) is left for each vector."""
    totals = jnp.array([[30.0, 40.0], [0.3, 0.4], [0.0, 0.0]])
    table = ClassTable(totals, jnp.array([1.0, 1.0, 0.0]), jnp.int32(0))
    sent = send(clip_and_noise(3.0), rows_of_table(table))
    room = np.sqrt(2.0)
    want = [[0.6 * room, 0.8 * room, 1.0], [0.3, 0.4, 1.0], [0.0, 0.0, 0.0]]
    np.testing.assert_allclose(sent.values, want, rtol=1e-6)
    assert norm(sent) <= 3.0
    coarse = uniform(1).send(KEY, (), (), rows_of_table(table))[1]
    np.testing.assert_array_equal(coarse.values[:, -1], [1.0, 1.0, 0.0])
    assert float(bits_of(coarse)) == 2 * (2 * 1 + 64 + 32)


def test_what_is_not_finite_does_not_get_past_the_clip():
    wild = rows_of_parameters({"a": jnp.array([jnp.inf, jnp.nan, 3.0, 4.0])})
    np.testing.assert_allclose(send(clip_and_noise(1.0), wild).values["a"], [[0, 0, 0.6, 0.8]])
