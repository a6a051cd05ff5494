"""Composition of channels, the delta channel, and what every channel has in common."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fedjax_kd.exchange import (
    Channel,
    PublicScores,
    bits_of,
    clip_and_noise,
    compose,
    delta,
    exact,
    largest_remainder,
    memory_of_clients,
    rows_of_parameters,
    rows_of_scores,
    secure_sum,
    traced_numbers,
    uniform,
    without_numbers,
)
from fedjax_kd.exchange.quantise import largest_remainder_row_bits

KEY = jax.random.key(5)
P, C, K = 6, 4, 3
CHANNELS = {
    "exact": exact(),
    "largest_remainder": largest_remainder(2),
    "uniform": uniform(4),
    "delta": delta(),
    "noise": clip_and_noise(1.0, 0.5),
    "share": clip_and_noise(1.0, 0.5, 3, noise="share", rows="present"),
    "secure_sum": secure_sum(8, K),
    "quantised_delta": compose(largest_remainder(1), delta()),
    "noisy_quantised": compose(clip_and_noise(1.0, 0.5), uniform(4), delta()),
    "noisy_sum": compose(clip_and_noise(1.0, 0.5, K, noise="share"), secure_sum(8, K)),
}


def scores(seed: int, mask=None) -> PublicScores:
    drawn = np.random.default_rng(seed).dirichlet([0.5] * C, P).astype(np.float32)
    there = np.ones(P, bool) if mask is None else np.array(mask, bool)
    return PublicScores(jnp.asarray(drawn), jnp.asarray(there))


def upload(seed: int, mask=None):
    return rows_of_scores(scores(seed, mask), probabilities=True)


@pytest.mark.parametrize("name", CHANNELS)
def test_mapped_over_clients_equals_one_by_one(name):
    channel = CHANNELS[name]
    uploads = [upload(k, np.random.default_rng(k + 9).random(P) < 0.7) for k in range(K)]
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *uploads)
    keys = jax.vmap(lambda k: jax.random.fold_in(KEY, k))(jnp.arange(K))
    memory = memory_of_clients(channel, uploads[0], K)
    numbers = traced_numbers(channel)
    send, send_one = jax.jit(jax.vmap(channel.send, in_axes=(0, 0, None, 0))), jax.jit(channel.send)
    own = [channel.init(one) for one in uploads]
    for _ in range(2):
        memory, out = send(keys, memory, numbers, stacked)
        for k in range(K):
            own[k], one = send_one(keys[k], own[k], numbers, uploads[k])
            assert one.simplex == out.simplex
            for whole, part in ((memory, own[k]), (out, one)):
                jax.tree.map(
                    lambda a, b, k=k: np.testing.assert_allclose(a[k], b, atol=1e-6), whole, part
                )


@pytest.mark.parametrize("name", CHANNELS)
def test_shapes_and_types_stay(name):
    channel, sent = CHANNELS[name], upload(0)
    memory = channel.init(sent)
    kept, out = jax.jit(channel.send)(KEY, memory, traced_numbers(channel), sent)
    shapes = jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), (memory, sent.values, sent.rows))
    assert shapes == jax.tree.map(
        lambda leaf: (leaf.shape, leaf.dtype), (kept, out.values, out.rows)
    )
    assert out.row_bits.dtype == jnp.float32
    assert out.row_bits.shape == (P,)


def test_equal_channels_compare_equal_and_numbers_stay_apart():
    assert largest_remainder(2) == largest_remainder(2) != largest_remainder(3)
    assert exact() == exact()
    one, other = clip_and_noise(1.0, 0.5), clip_and_noise(2.0, 3.0)
    assert one != other
    assert without_numbers(one) == without_numbers(other)
    assert without_numbers(one) != without_numbers(clip_and_noise(noise="share"))
    two = [compose(channel, uniform(4), delta()) for channel in (one, other)]
    assert without_numbers(two[0]) == without_numbers(two[1])
    assert len({hash(channel) for channel in (two[0], compose(one, uniform(4), delta()))}) == 1
    np.testing.assert_allclose(traced_numbers(two[1])[0].clip, 2.0)
    assert isinstance(hash(secure_sum(4, 10)), int)


def test_a_channel_is_a_static_argument_of_one_program():
    traces = []

    @jax.jit
    def once(numbers, sent):
        traces.append(1)
        return clip_and_noise(rows="present").send(KEY, (), numbers, sent)[1]

    for multiplier in (0.0, 1.0, 2.0):
        once(traced_numbers(clip_and_noise(1.0, multiplier)), upload(0))
    assert len(traces) == 1


@pytest.mark.parametrize(
    ("channels", "found"),
    [
        ((delta(), uniform(2)), "delta, quantise"),
        ((uniform(2), clip_and_noise()), "quantise, noise"),
        ((uniform(2), largest_remainder(2)), "quantise, quantise"),
        ((secure_sum(4, 3), uniform(2)), "secure_sum, quantise"),
        ((delta(), secure_sum(4, 3)), "delta and secure_sum"),
    ],
)
def test_orders_that_make_no_sense_are_refused(channels: tuple[Channel, ...], found):
    with pytest.raises(ValueError, match=f"channels: .*{found}"):
        compose(*channels)


def test_noisy_scores_are_no_longer_probabilities_to_a_later_quantiser():
    channel = compose(clip_and_noise(1.0, 0.5), largest_remainder(2))
    with pytest.raises(ValueError, match="probability vectors"):
        channel.init(upload(0))


def test_only_a_secure_sum_hides_single_uploads():
    shown = {name: channel.sum_only for name, channel in CHANNELS.items()}
    assert {name for name, hidden in shown.items() if hidden} == {"secure_sum", "noisy_sum"}


def test_delta_sends_what_changed_and_the_receiver_keeps_the_rest():
    channel, row, flags = delta(), C * 32, P
    first = upload(0, [1, 1, 1, 1, 0, 0])
    memory, out = channel.send(KEY, channel.init(first), (), first)
    assert float(bits_of(out)) == 4 * row + flags
    memory, out = channel.send(KEY, memory, (), first)
    assert float(bits_of(out)) == flags
    jax.tree.map(np.testing.assert_array_equal, out.values, first.values)
    # Row 0 changes, row 1 goes, row 4 is new.
    moved = scores(0, [1, 0, 1, 1, 1, 0])
    moved = replace(moved, values=moved.values.at[0].set(moved.values[0][::-1]))
    moved = rows_of_scores(moved)
    memory, out = channel.send(KEY, memory, (), moved)
    assert np.asarray(out.row_bits).tolist() == [row + 1, 1, 1, 1, row + 1, 1]
    jax.tree.map(np.testing.assert_array_equal, out.values, moved.values)
    # Row 1 returns as it was last sent.
    back = rows_of_scores(scores(0, [0, 1, 0, 0, 0, 0]))
    memory, out = channel.send(KEY, memory, (), back)
    assert float(bits_of(out)) == flags


def test_a_receiver_with_flags_and_changed_rows_alone_has_every_upload():
    """What crosses (the flags and the rows behind them) rebuilds every upload at the receiver."""
    channel = compose(largest_remainder(1), delta())
    memory, receiver, saved = channel.init(upload(0)), np.zeros((P, C), np.float32), 0
    for turn in range(6):
        sent = rows_of_scores(
            PublicScores(scores(turn // 2).values, jnp.ones(P, bool)), probabilities=True
        )
        memory, out = channel.send(KEY, memory, ((), ()), sent)
        crossed = np.asarray(out.row_bits) > 1
        receiver[crossed] = np.asarray(out.values)[crossed]
        np.testing.assert_array_equal(receiver, out.values)
        saved += int((~crossed).sum())
        price = largest_remainder_row_bits(1, C) + 1
        np.testing.assert_allclose(out.row_bits, np.where(crossed, price, 1), rtol=1e-6)
    assert saved >= 3 * P


def test_composed_channels_count_the_product():
    sent = upload(0, [1, 1, 1, 0, 1, 1])
    one, both = uniform(3), compose(uniform(3), delta())
    row = 3 * C + 64
    assert float(bits_of(one.send(KEY, (), (), sent)[1])) == 5 * row
    memory, out = both.send(KEY, both.init(sent), ((), ()), sent)
    assert float(bits_of(out)) == 5 * row + P
    changed = upload(0, [1, 1, 1, 0, 1, 1])
    changed = replace(changed, values=changed.values.at[2].add(jnp.arange(4.0)))
    assert float(bits_of(both.send(KEY, memory, ((), ()), changed)[1])) == row + P
    # Noise makes every row present; then the quantiser prices all of them.
    noisy = compose(clip_and_noise(1.0, 1.0), uniform(3), delta())
    numbers = traced_numbers(noisy)
    out = noisy.send(KEY, noisy.init(sent), numbers, sent)[1]
    assert float(bits_of(out)) == P * row + P


def test_channels_take_pytrees_of_arrays():
    tree = {"w": jnp.arange(6.0).reshape(2, 3), "b": jnp.ones(3)}
    sent = rows_of_parameters(tree)
    channel = compose(clip_and_noise(1.0, 0.0), uniform(8), delta())
    out = channel.send(KEY, channel.init(sent), traced_numbers(channel), sent)[1]
    assert float(bits_of(out)) == (6 + 3) * 8 + 2 * 64 + 2
    scale = 1 / np.sqrt(55 + 3)
    np.testing.assert_allclose(out.values["w"][0], np.arange(6) * scale, atol=1e-3)
