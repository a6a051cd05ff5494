"""Prices of rounds: two users by hand, and laws."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from system_cases import hand_fleet

from fedjax_kd.system import (
    ROUND_CAUSES,
    PhaseWork,
    cumulative,
    ledger_of_rounds,
    load_profile,
    peer_gain,
    price_rounds,
    round_totals,
    sample_fleet,
)

PROFILE = load_profile("cell_500m")


def stacked(*fleets):
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *fleets)


def phase(flops, up, down, server=0.0, *, name="work", peer=False, partner=None):
    """One round of one point."""
    flops, up, down = (np.asarray(values, np.float32)[None, None] for values in (flops, up, down))
    server_flops = np.full((1, 1), server, np.float32)
    if partner is not None:
        partner = np.asarray(partner)[None, None]
    return PhaseWork(name, peer, flops, up, down, server_flops, partner)


def drawn(n_users=6, n_points=2, **options):
    return stacked(
        *(sample_fleet(jax.random.key(s), PROFILE, n_users, **options) for s in range(n_points))
    )


def random_phase(shape=(5, 2, 6), seed=0, *, name="work", active=0.7):
    rng = np.random.default_rng(seed)
    flops, up, down = (
        rng.uniform(0.5, 1.0, shape) * size * (rng.random(shape) < active)
        for size in (1e11, 1e7, 1e7)
    )
    return PhaseWork(name, False, flops, up, down, rng.uniform(0, 1e10, shape[:2]))


def gather_phase(shape=(5, 2, 6), seed=0, *, back=False):
    """User 0 collects from some others, or sends to them."""
    rng = np.random.default_rng(seed)
    sent = rng.uniform(1e6, 1e7, shape) * (rng.random(shape) < 0.6)
    sent[..., 0] = 0.0
    at_hub = np.zeros(shape)
    at_hub[..., 0] = sent.sum(axis=-1)
    up, down = (at_hub, sent) if back else (sent, at_hub)
    return PhaseWork("back" if back else "there", True, np.zeros(shape), up, down, np.zeros((5, 2)))


def test_a_phase_with_the_server_by_hand():
    # Links of hand_fleet: 2 MHz each way, c = 3 MHz up and 15 MHz down for both users.
    work = phase([4e9, 16e9], [6e6, 2e6], [4e6, 0.0], server=8e9)
    prices = price_rounds([work], stacked(hand_fleet()), PROFILE)
    assert ROUND_CAUSES == ("downlink", "training", "uplink")
    np.testing.assert_allclose(
        prices.users.delay_s[0, 0, :, 0],
        [
            # alone in 2 MHz: 4e6 / (2e6 log2 8.5); 4e9 / 4e9; half the band: 6e6 / (1e6 log2 4)
            [4e6 / (2e6 * np.log2(8.5)), 1.0, 3.0],
            # nothing to receive; 16e9 / 8e9; 2e6 / (1e6 log2 4)
            [0.0, 2.0, 1.0],
        ],
        rtol=1e-6,
    )
    np.testing.assert_allclose(
        prices.users.energy_j[0, 0, :, 0],
        [
            # 1e9 cycles at 1e-28 x 1e18; 0.5 W x 3 s
            [0.0, 0.1, 1.5],
            # 4e9 cycles at 1e-28 x 4e18; 0.8 W x 1 s
            [0.0, 1.6, 0.8],
        ],
        rtol=1e-6,
    )
    receiving_s = 4e6 / (2e6 * np.log2(8.5))
    # The server: 10 W on one stream; 2e9 cycles at 1e-30 x 1e20; 8e9 / 4e10 seconds.
    np.testing.assert_allclose(
        prices.server.energy_j[0, 0, 0], [10 * receiving_s, 0.2, 0.0], rtol=1e-6
    )
    np.testing.assert_allclose(prices.server.delay_s[0, 0, 0], [receiving_s, 0.2, 0.0], rtol=1e-6)
    # User 0 is the slowest; then the server computes.
    np.testing.assert_allclose(prices.phase_s[0, 0], [receiving_s + 1.0 + 3.0 + 0.2], rtol=1e-6)
    totals = round_totals(prices)
    np.testing.assert_allclose(totals.delay_s, prices.phase_s[..., 0])
    np.testing.assert_allclose(totals.bits, [[12e6]])
    np.testing.assert_allclose(totals.flops, [[28e9]])
    energy_j = 0.1 + 1.5 + 1.6 + 0.8 + 10 * receiving_s + 0.2
    np.testing.assert_allclose(totals.energy_j, [[energy_j]], rtol=1e-6)


@pytest.mark.parametrize("back", [False, True])
def test_a_phase_between_two_devices_by_hand(back):
    fleet = hand_fleet()  # on one line, 100 and 200 m from the base station: 100 m apart
    sent, received = [3e6, 0.0], [0.0, 3e6]
    if back:
        sent, received = received, sent
    work = phase([4e9, 16e9], sent, received, peer=True)
    prices = price_rounds([work], stacked(fleet), PROFILE)
    watts = 0.8 if back else 0.5
    snr_hz = watts * 17 / (47.86 * 100**2.75) / 10 ** ((-174 - 30) / 10)
    link_s = 3e6 / (2e6 * np.log2(1 + snr_hz / 2e6))
    sender, receiver = (1, 0) if back else (0, 1)
    np.testing.assert_allclose(prices.users.delay_s[0, 0, sender, 0, 2], link_s, rtol=1e-5)
    np.testing.assert_allclose(prices.users.delay_s[0, 0, receiver, 0, 0], link_s, rtol=1e-5)
    np.testing.assert_allclose(prices.users.energy_j[0, 0, sender, 0, 2], watts * link_s, rtol=1e-5)
    # The sender computes, the link carries, the receiver computes.
    np.testing.assert_allclose(prices.round_s, [[1.0 + link_s + 2.0]], rtol=1e-5)
    assert (prices.server.energy_j == 0).all()
    totals = round_totals(prices)
    np.testing.assert_allclose(totals.bits, [[3e6]])  # once, although two users report them
    np.testing.assert_allclose(totals.flops, [[20e9]])


def test_links_between_devices_come_one_after_another():
    fleets = drawn()
    there, back = gather_phase(), gather_phase(back=True)
    gain = np.asarray(peer_gain(fleets, PROFILE), np.float64)
    noise = 10 ** ((-174 - 30) / 10)
    watts, band = np.asarray(fleets.transmit_w, np.float64), 20e6
    rate = band * np.log2(1 + watts[:, :, None] * gain / noise / band)  # [S, from, to]
    prices = price_rounds([there, back], fleets, PROFILE)
    np.testing.assert_allclose(
        prices.phase_s[..., 0], (there.uplink_bits / rate[:, :, 0]).sum(axis=-1), rtol=1e-5
    )
    link_s = back.downlink_bits / rate[:, 0, :]
    np.testing.assert_allclose(prices.phase_s[..., 1], link_s.sum(axis=-1), rtol=1e-5)
    np.testing.assert_allclose(prices.users.delay_s[..., 1, 0], link_s, rtol=1e-5)
    np.testing.assert_allclose(
        prices.users.energy_j[:, :, 0, 1, 2], link_s.sum(axis=-1) * watts[:, 0], rtol=1e-5
    )


def test_pairs_need_to_be_named():
    fleets = drawn(4, 1)
    up, down = [1e6, 1e6, 0, 0], [0, 0, 1e6, 1e6]
    named = phase([0] * 4, up, down, peer=True, partner=[3, 2, -1, -1], name="meet")
    prices = price_rounds([named], fleets, PROFILE)
    one = phase([0] * 4, [1e6, 0, 0, 0], [0, 0, 0, 1e6], peer=True)
    two = phase([0] * 4, [0, 1e6, 0, 0], [0, 0, 1e6, 0], peer=True)
    alone = price_rounds([one, two], fleets, PROFILE)
    np.testing.assert_allclose(prices.round_s, alone.round_s)
    np.testing.assert_allclose(
        prices.users.delay_s[..., 0, :], alone.users.delay_s.sum(axis=-2), rtol=1e-12
    )
    with pytest.raises(ValueError, match=r"phase 'meet': in round 1 of point 0 several users send"):
        price_rounds([named._replace(partner=None)], fleets, PROFILE)
    with pytest.raises(ValueError, match=r"partner holds 4 .* one of 0\.\.3"):
        price_rounds([named._replace(partner=np.full((1, 1, 4), 4))], fleets, PROFILE)
    with pytest.raises(ValueError, match=r"user 2 reports 1000000 bits, but .* carry 2000000"):
        price_rounds([named._replace(partner=np.full((1, 1, 4), 2))], fleets, PROFILE)
    itself = phase([0] * 4, up, up, peer=True, partner=[0, 1, -1, -1])
    with pytest.raises(ValueError, match="user 0 would send to itself"):
        price_rounds([itself], fleets, PROFILE)


def test_rounds_points_and_phases_are_priced_each_by_itself():
    fleets = drawn()
    phases = [random_phase(seed=1), gather_phase(), random_phase(seed=2)]
    whole = price_rounds(phases, fleets, PROFILE)
    assert whole.phases == ("work", "there", "work")
    assert whole.users.delay_s.shape == (5, 2, 6, 3, 3)
    for number, each in enumerate(phases):
        alone = price_rounds([each], fleets, PROFILE)
        for mine, all_of_them in zip(alone.users, whole.users, strict=True):
            np.testing.assert_array_equal(mine[..., 0, :], all_of_them[..., number, :])
        np.testing.assert_array_equal(alone.phase_s[..., 0], whole.phase_s[..., number])
    rows = [each._replace(**{k: v[3:4] for k, v in arrays_of(each).items()}) for each in phases]
    np.testing.assert_array_equal(price_rounds(rows, fleets, PROFILE).phase_s, whole.phase_s[3:4])
    second = jax.tree.map(lambda leaf: leaf[1:], fleets)
    columns = [
        each._replace(**{k: v[:, 1:] for k, v in arrays_of(each).items()}) for each in phases
    ]
    np.testing.assert_array_equal(
        price_rounds(columns, second, PROFILE).phase_s, whole.phase_s[:, 1:]
    )


def arrays_of(work):
    return {name: value for name, value in work._asdict().items() if isinstance(value, np.ndarray)}


def test_sums_agree_whatever_the_order():
    prices = price_rounds([random_phase(), gather_phase()], drawn(), PROFILE)
    totals, sums = round_totals(prices), cumulative(round_totals(prices))
    ledger = ledger_of_rounds(prices)
    assert ledger.energy_j.shape == (2, 7, 2, 3)
    for name in ("energy_j", "bits", "flops"):
        in_all = getattr(ledger, name).sum(axis=(1, 2, 3))
        np.testing.assert_allclose(getattr(sums, name)[-1], in_all, rtol=1e-12)
        np.testing.assert_allclose(getattr(totals, name).sum(axis=0), in_all, rtol=1e-12)
        assert (np.diff(getattr(sums, name), axis=0) >= 0).all()
    np.testing.assert_allclose(sums.delay_s[-1], prices.phase_s.sum(axis=(0, 2)), rtol=1e-12)
    np.testing.assert_array_equal(ledger.flops[:, -1, 0, 1], prices.server.flops[..., 0, 1].sum(0))


def test_a_phase_lasts_as_long_as_its_slowest_user():
    prices = price_rounds([random_phase()], drawn(), PROFILE)
    chain_s = prices.users.delay_s[..., 0, :].sum(axis=-1).max(axis=-1)
    np.testing.assert_allclose(
        prices.phase_s[..., 0], chain_s + prices.server.delay_s[..., 0, 1], rtol=1e-12
    )


def test_twice_the_work_costs_twice_as_much():
    work, fleets = random_phase(), drawn()
    double = work._replace(**{name: 2 * value for name, value in arrays_of(work).items()})
    once, twice = (price_rounds([each], fleets, PROFILE) for each in (work, double))
    for one, two in zip((*once.users, once.phase_s), (*twice.users, twice.phase_s), strict=True):
        np.testing.assert_allclose(2 * one, two, rtol=1e-12)


def test_nothing_costs_nothing():
    shape = (3, 2, 6)
    none = np.zeros(shape)
    for peer in (False, True):
        idle = PhaseWork("idle", peer, none, none, none, np.zeros(shape[:2]))
        prices = price_rounds([idle], drawn(), PROFILE)
        for values in (*prices.users, *prices.server, prices.phase_s):
            assert (values == 0).all()


@pytest.mark.parametrize("peer", [False, True])
def test_users_who_do_nothing_change_no_price(peer):
    work = gather_phase() if peer else random_phase()
    few, many = drawn(6), drawn(9)  # the first six users are the same
    padded = {
        name: np.pad(value, [(0, 0)] * 2 + [(0, 3)] * (value.ndim - 2))
        for name, value in arrays_of(work).items()
    }
    one = price_rounds([work], few, PROFILE)
    other = price_rounds([work._replace(**padded)], many, PROFILE)
    np.testing.assert_allclose(one.phase_s, other.phase_s, rtol=1e-12)
    for mine, theirs in zip(one.users, other.users, strict=True):
        np.testing.assert_allclose(mine, theirs[:, :, :6], rtol=1e-12)
        assert (theirs[:, :, 6:] == 0).all()


def test_a_slower_device_makes_a_longer_round():
    work = phase([1e11, 1e9], [1e6, 1e6], [0.0, 0.0])
    fast = stacked(hand_fleet())
    slow = fast._replace(device_flops_per_s=fast.device_flops_per_s / 10)
    one, other = (price_rounds([work], fleets, PROFILE) for fleets in (fast, slow))
    assert (other.round_s > one.round_s + 100).all()
    np.testing.assert_array_equal(one.users.energy_j, other.users.energy_j)


def test_weak_devices_take_longer_for_the_same_work():
    profile = load_profile("cell_weak_strong")
    weak = np.arange(6) >= 2
    fleets = stacked(*(sample_fleet(jax.random.key(s), profile, 6, weak=weak) for s in range(2)))
    flops = np.full((1, 2, 6), 1e10)
    work = PhaseWork("work", False, flops, 0 * flops, 0 * flops, np.zeros((1, 2)))
    users = price_rounds([work], fleets, profile).users
    training_s, energy_j = users.delay_s[0, :, :, 0, 1], users.energy_j[0, :, :, 0, 1]
    assert training_s[:, 2:].min() > 4 * training_s[:, :2].max()
    np.testing.assert_allclose(training_s[:, 2:].mean() / training_s[:, :2].mean(), 10, rtol=0.5)
    # Energy per operation: the same law around the same middle, within the ranges' factor of four.
    assert 0.2 < energy_j[:, 2:].mean() / energy_j[:, :2].mean() < 5


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"flops": np.zeros((5, 2, 7))},
            r"flops has shape \(5, 2, 7\); must be \(5, 2, 6\)",
        ),
        ({"server_flops": np.zeros((5, 3))}, r"server_flops has shape \(5, 3\); must be \(5, 2\)"),
        ({"uplink_bits": np.full((5, 2, 6), -1.0)}, r"uplink_bits holds -1.0; must be finite"),
        ({"flops": np.full((5, 2, 6), np.nan)}, r"flops holds nan; must be finite"),
    ],
)
def test_work_that_does_not_fit_is_refused(change, message):
    with pytest.raises(ValueError, match=message):
        price_rounds([random_phase(), random_phase()._replace(**change)], drawn(), PROFILE)


def test_other_misuse_is_refused():
    with pytest.raises(ValueError, match="has no phase"):
        price_rounds([], drawn(), PROFILE)
    with pytest.raises(ValueError, match=r"fleets: arrays of users have shape \(2,\)"):
        price_rounds([random_phase()], hand_fleet(), PROFILE)
    lost = gather_phase()
    with pytest.raises(ValueError, match=r"'there': .* what is sent must be what is received"):
        price_rounds([lost._replace(downlink_bits=lost.downlink_bits * 2)], drawn(), PROFILE)


def test_peers_of_the_macro_cell_profile_have_no_shadowing():
    profile = load_profile("weak_edge")
    other = replace(profile, path_loss=replace(profile.path_loss, shadowing_db=0.0))
    fleet = sample_fleet(jax.random.key(0), profile, 4)
    np.testing.assert_array_equal(peer_gain(fleet, profile), peer_gain(fleet, other))
