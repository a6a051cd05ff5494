import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fedjax_kd.training import Execution, executed_examples, run_clients

COUNTS = jnp.asarray([5, 1, 9, 0, 4, 8], jnp.int32)
EVERYBODY = jnp.ones(6, bool)


def executed(form, devices=1, active=EVERYBODY, width=2):
    execution = Execution(form, tuple(jax.local_devices()[:devices]), width=width)
    return np.asarray(executed_examples(COUNTS, active, 4, execution))


def test_one_after_another_fills_up_the_last_batch_only():
    np.testing.assert_array_equal(executed("sequential"), [8, 4, 12, 0, 4, 8])


def test_all_at_once_runs_as_long_as_the_largest():
    np.testing.assert_array_equal(executed("vmap"), [12] * 6)
    np.testing.assert_array_equal(executed("vmap", devices=2), [12, 12, 12, 8, 8, 8])


def test_chunks_put_alike_sizes_together():
    # In order of size: 12, 8 | 8, 4 | 4, 0, and each chunk costs twice its largest.
    got = executed("chunked")
    assert got.sum() == 2 * (12 + 8 + 4)
    assert got[2] == 12
    assert got.sum() < executed("vmap").sum()


def test_places_without_a_client_are_paid_for():
    # Chunks of four: 12, 8, 8, 4 | 4, 0 and two empty places.
    assert executed("chunked", width=4).sum() == 4 * 12 + 4 * 4


@pytest.mark.parametrize("active", [[1] * 6, [1, 0, 0, 1, 1, 0]], ids=["all", "some"])
@pytest.mark.parametrize(("form", "width"), [("sequential", 1), ("chunked", 2), ("chunked", 4)])
def test_the_count_is_that_of_the_steps_that_are_run(form, width, active):
    """Every place of a chunk counts its steps on the host, as often as the loop goes round."""
    ran = []
    execution = Execution(form, tuple(jax.local_devices()[:1]), width=width)

    def one_client(state, count, shared):
        def step(i, carry):
            jax.debug.callback(lambda: ran.append(1))
            return carry

        return state, jax.lax.fori_loop(0, (count + 3) // 4, step, jnp.int32(0))

    active = jnp.asarray(active, bool)
    run = jax.jit(lambda a: run_clients(one_client, (), COUNTS, (), a, execution, work=COUNTS))
    jax.block_until_ready(run(active))
    jax.effects_barrier()
    spent = executed(form, active=active, width=width)
    # Within a chunk the callback is made once for all, in each step of the largest.
    assert len(ran) * 4 * (width if form == "chunked" else 1) == spent.sum()


@pytest.mark.parametrize("form", ["sequential", "chunked"])
def test_inactive_clients_cost_nothing(form):
    active = jnp.asarray([1, 0, 0, 0, 0, 1], bool)
    got = executed(form, active=active)
    assert got.sum() == 16
    assert got[[1, 2, 3, 4]].sum() == 0


def test_a_large_dirichlet_population_wastes_little_one_after_another():
    shares = np.random.default_rng(0).dirichlet(np.full(100, 0.3))
    counts = jnp.asarray(np.round(shares * 60_000), jnp.int32)
    execution = Execution("sequential", tuple(jax.local_devices()[:1]))
    spent = executed_examples(counts, jnp.ones(100, bool), 32, execution)
    assert 1.0 <= float(spent.sum()) / float(counts.sum()) < 1.1
