"""What is saved comes back bit for bit; when it is saved, and what stays."""

import signal
import zlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from checkpoint_cases import Clock, Moments, bits, filled, odd_tree, opened, shapes, small

from fedjax_kd.study.checkpoint import Cadence, CheckpointError, Stopped, no_keeper
from fedjax_kd.study.checkpoint_files import part_folder, parts_in, read_about, steps_in
from fedjax_kd.study.checkpoint_tree import Leaf, host_leaves


def steps(path, part="p"):
    return steps_in(part_folder(path / "checkpoints", part))


def test_every_kind_of_leaf_comes_back_bit_for_bit(tmp_path):
    keeper = opened(tmp_path)
    tree = odd_tree()
    keeper.part("odd / ü", 1).offer(1, lambda: tree)
    keeper.close()
    found = opened(tmp_path).part("odd / ü", 1).restore(shapes(tree))
    assert found is not None
    assert found[0] == 1
    assert bits(found[1]) == bits(tree)
    assert isinstance(found[1].clients["a/b"], np.ndarray)
    assert isinstance(found[1].clients["moments"], Moments)
    assert parts_in(tmp_path / "checkpoints") == ["odd / ü"]
    drawn = jax.random.normal(found[1].server[0], (3,))
    np.testing.assert_array_equal(drawn, jax.random.normal(tree.server[0], (3,)))


@pytest.mark.parametrize(
    "tree", [{}, None, (), np.zeros((0,), np.int8), {"only": jnp.zeros((2, 0))}]
)
def test_trees_without_a_number_come_back(tmp_path, tree):
    keeper = opened(tmp_path)
    keeper.part("p", 1).offer(1, lambda: tree)
    keeper.close()
    found = opened(tmp_path).part("p", 1).restore(lambda: shapes(tree))
    assert found is not None
    assert bits(found[1]) == bits(tree)


def test_a_state_may_be_given_away_while_it_is_written(tmp_path):
    step = jax.jit(lambda x: x + jnp.float32(1), donate_argnums=0)
    state = step(jnp.zeros(300_000, jnp.float32))
    copied = host_leaves(state)[""].numbers
    again = host_leaves(state + jnp.float32(4), {"": Leaf(copied)})[""].numbers
    assert again is copied  # memory is used again
    assert again[0] == 5
    assert not np.shares_memory(again, np.asarray(state))
    keeper = opened(tmp_path, Cadence(every_rounds=1, every_minutes=None, keep=9))
    part = keeper.part("p", 9)
    for done in range(1, 5):
        part.offer(done, lambda: state)  # noqa: B023
        state = step(state)
    keeper.close()
    for done in steps(tmp_path):
        about = read_about(part_folder(tmp_path / "checkpoints", "p") / str(done))
        assert about["leaves"][""]["crc32"] == zlib.crc32(
            np.full(300_000, done, np.float32).tobytes()
        )
    assert steps(tmp_path)[0] == 1


def test_lengths_may_be_left_open_and_other_trees_are_refused_by_leaf(tmp_path):
    tree = {"rows": np.zeros((4, 3), np.float32), "key": jax.random.split(jax.random.key(0), 2)}
    keeper = opened(tmp_path)
    keeper.part("p", 1).offer(1, lambda: tree)
    keeper.close()
    part = opened(tmp_path).part("p", 1)
    rows = jax.ShapeDtypeStruct((-1, 3), jnp.float32)
    key = jax.ShapeDtypeStruct((-1,), tree["key"].dtype)
    found = part.restore({"rows": rows, "key": key})
    assert found is not None
    assert found[1]["rows"].shape == (4, 3)
    wrong = {
        r"leaf \['rows'\]: expected float32\[any, 2\]; found float32\[4, 3\]": {
            "rows": jax.ShapeDtypeStruct((-1, 2), jnp.float32),
            "key": key,
        },
        r"leaf \['rows'\]: expected int32\[4, 3\]; found float32\[4, 3\]": {
            "rows": jax.ShapeDtypeStruct((4, 3), jnp.int32),
            "key": key,
        },
        r"leaf \['key'\]: expected uint32\[2, 2\]; found key<fry>\[2\]": {
            "rows": rows,
            "key": jax.ShapeDtypeStruct((2, 2), jnp.uint32),
        },
        r"leaf \['more'\]: expected float32\[any, 3\]; found nothing": {
            "rows": rows,
            "key": key,
            "more": rows,
        },
        r"leaf \['key'\]: expected nothing; found key<fry>\[2\]": {"rows": rows},
    }
    for message, like in wrong.items():
        with pytest.raises(CheckpointError, match=message):
            part.restore(like)
    assert steps(tmp_path) == [1]


def test_what_is_no_number_is_refused_by_name(tmp_path):
    keeper = opened(tmp_path)
    with pytest.raises(CheckpointError, match=r"leaf \['x'\]: found str of <U1; allowed: numbers"):
        keeper.part("p", 1).offer(1, lambda: {"x": "a"})
    keeper.close()


def test_by_rounds_by_minutes_and_at_the_end(tmp_path):
    clock = Clock()
    keeper = opened(tmp_path, Cadence(every_rounds=10, every_minutes=2, keep=99), clock=clock)
    part = keeper.part("p", 40)
    assert part.align == 10
    for step in range(1, 41):
        clock.now_s += 100 if 20 < step < 24 else 1
        part.offer(step, lambda: small(step))  # noqa: B023
        keeper.part("waits", 1)
    # 10 and 20 by rounds, 22 by minutes (a pause of 200 s), 30 and 40 by rounds and as the last.
    assert steps(tmp_path) == [10, 20, 22, 30, 40]
    keeper.close()


def test_the_last_ones_stay_and_in_the_end_the_final_one(tmp_path):
    filled(tmp_path, steps=4, total=4, keep=3)
    filled(tmp_path, steps=3, total=4, keep=2, part="unfinished")
    assert steps(tmp_path) == [2, 3, 4]
    assert steps(tmp_path, "unfinished") == [2, 3]
    keeper = opened(tmp_path)
    keeper.finish()
    assert steps(tmp_path) == [4]
    assert steps(tmp_path, "unfinished") == [2, 3]
    keeper.drop("unfinished")
    assert parts_in(tmp_path / "checkpoints") == ["p"]
    keeper.close()


def test_a_run_goes_on_after_what_it_restored(tmp_path):
    filled(tmp_path, steps=3)
    keeper = opened(tmp_path)
    part = keeper.part("p", 9)
    found = part.restore(shapes(small(0)))
    assert found is not None
    assert bits(found) == bits((3, small(3)))
    part.offer(3, lambda: pytest.fail("it is on the disk already"))
    part.offer(4, lambda: small(4))
    keeper.close()
    assert steps(tmp_path) == [3, 4]
    about = read_about(part_folder(tmp_path / "checkpoints", "p") / "4")
    assert (about["part"], about["step"], about["total"], about["points"]) == ("p", 4, 9, 1)
    assert about["versions"]["jax"] == jax.__version__
    assert about["machine"]["devices"] == ["cpu", "cpu"]


def test_a_run_that_starts_afresh_replaces_what_another_left(tmp_path):
    filled(tmp_path, steps=5)
    keeper = opened(tmp_path)
    part = keeper.part("p", 9)
    part.offer(1, lambda: small(101))
    keeper.close()
    assert steps(tmp_path) == [1]
    found = opened(tmp_path).part("p", 9).restore(shapes(small(0)))
    assert found is not None
    assert bits(found[1]) == bits(small(101))


def test_seconds_spent_add_up_over_runs(tmp_path):
    for run in range(2):
        clock = Clock()
        clock.now_s = 1000.0 * run
        keeper = opened(tmp_path, clock=clock)
        part = keeper.part("p", 9)
        part.restore(shapes(small(0)))
        clock.now_s += 5
        part.offer(run + 1, lambda: small(1))
        keeper.close()
    about = read_about(part_folder(tmp_path / "checkpoints", "p") / "2")
    assert about["spent_s"] == 10.0


def test_other_settings_and_points_are_refused_and_other_conditions_are_said(tmp_path):
    filled(tmp_path)
    like = shapes(small(0))
    with pytest.raises(CheckpointError, match="settings: found abc; allowed: xyz"):
        opened(tmp_path, settings_hash="xyz").part("p", 9).restore(like)
    with pytest.raises(CheckpointError, match="points: found 1; allowed: 4"):
        opened(tmp_path, points=4).part("p", 9).restore(like)
    notes: list[str] = []
    assert opened(tmp_path, form="chunked:4", notes=notes).part("p", 9).restore(like)
    assert notes == [
        "going on with checkpoints of form of execution vmap then, chunked:4 now: results may "
        "differ in the last bits from those of an uninterrupted run"
    ]
    notes = []
    assert opened(tmp_path, notes=notes).part("p", 8).restore(like) is None
    assert notes == [
        "p: was cut into 9 steps and is now into 8; it starts again from the beginning"
    ]
    filled(tmp_path, steps=2, total=2, part="done")
    found = opened(tmp_path).part("done", 5).restore(like)
    assert found is not None
    assert found[0] == 5


def test_a_stop_saves_and_says_how_far_it_is(tmp_path):
    asked: list[int | None] = [None]
    keeper = opened(tmp_path, Cadence(None, None), requested=lambda: asked[0])
    part = keeper.part("p", 9)
    part.offer(1, lambda: pytest.fail("not due"))
    asked[0] = signal.SIGTERM
    with pytest.raises(Stopped, match="after round 2 of p") as stopped:
        part.offer(2, lambda: small(2))
    assert (stopped.value.signal, stopped.value.exit_code) == (15, 143)
    assert steps(tmp_path) == [2]  # whole before the exception comes
    keeper.close()
    with pytest.raises(Stopped):
        no_keeper(lambda: signal.SIGINT).part("p", 9).offer(1, lambda: pytest.fail("kept"))
    nothing = no_keeper().part("p", 1)
    nothing.offer(1, lambda: pytest.fail("kept"))
    assert nothing.align is None
    assert nothing.restore(None) is None


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("every_rounds", 0),
        ("every_rounds", 2.0),
        ("every_rounds", True),
        ("every_minutes", 0),
        ("every_minutes", float("nan")),
        ("every_minutes", float("inf")),
        ("keep", 0),
        ("keep", None),
    ],
)
def test_a_cadence_out_of_range_names_its_field(field, value):
    with pytest.raises(ValueError, match=f"^{field}: found {value!r}; allowed: "):
        Cadence(**{field: value})


def test_part_names_and_totals_are_checked(tmp_path):
    keeper = opened(tmp_path)
    with pytest.raises(ValueError, match=r"part: found '\.\.'"):
        keeper.part("..", 1)
    with pytest.raises(ValueError, match="total: found 0"):
        keeper.part("p", 0)
