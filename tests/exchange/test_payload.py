"""Payloads as rows and back, and what they cost as they are."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fedjax_kd.exchange import (
    ClassTable,
    PublicScores,
    bits_of,
    class_table,
    compose,
    exact,
    parameters_of_rows,
    rows_of_parameters,
    rows_of_scores,
    rows_of_table,
    scores_of_rows,
    table_of_rows,
)

C, D, P = 4, 6, 5


def a_table(present: list[bool]) -> ClassTable:
    there = np.array(present, np.float32)
    totals = np.random.default_rng(1).normal(size=(C, D)).astype(np.float32)
    return ClassTable(
        jnp.asarray(totals * there[:, None]), jnp.asarray(there * 3), jnp.asarray(2, jnp.int32)
    )


def test_a_class_table_comes_back_and_costs_its_present_rows():
    table = a_table([True, False, True, True])
    sent = rows_of_table(table)
    back = table_of_rows(sent, 2)
    jax.tree.map(np.testing.assert_array_equal, back, table)
    assert float(bits_of(sent)) == 3 * (D + 1) * 32 == float(class_table.bits(table))


def test_scores_come_back_and_absent_rows_cost_nothing():
    values = jnp.asarray(np.random.default_rng(0).normal(size=(P, C)), jnp.float32)
    mask = jnp.array([True, True, False, True, False])
    sent = rows_of_scores(PublicScores(values, mask))
    back = scores_of_rows(sent)
    np.testing.assert_array_equal(back.mask, mask)
    np.testing.assert_array_equal(back.values, np.where(mask[:, None], values, 0))
    assert float(bits_of(sent)) == 3 * C * 32
    assert float(bits_of(rows_of_scores(PublicScores(values, mask | True)))) == P * C * 32


def test_parameters_come_back_with_and_without_a_mask():
    tree = {"w": jnp.arange(6.0).reshape(2, 3) + 1, "b": jnp.ones(3)}
    sent = rows_of_parameters(tree)
    jax.tree.map(np.testing.assert_array_equal, parameters_of_rows(sent, tree), tree)
    assert float(bits_of(sent)) == (6 + 3) * 32
    mask = {"w": jnp.array([[1, 1, 0], [0, 0, 0]]), "b": jnp.zeros(3, jnp.int32)}
    sent = rows_of_parameters(tree, mask)
    back = parameters_of_rows(sent, tree)
    np.testing.assert_array_equal(back["w"], [[1, 2, 0], [0, 0, 0]])
    np.testing.assert_array_equal(back["b"], [0, 0, 0])
    assert float(bits_of(sent)) == 2 * 32
    assert not sent.rows["b"][0]


def test_parameters_of_another_kind_are_refused():
    with pytest.raises(ValueError, match=r"parameters\['w'\]: dtype int32; allowed: float32"):
        rows_of_parameters({"w": jnp.zeros(3, jnp.int32)})
    with pytest.raises(ValueError, match="mask: shapes"):
        rows_of_parameters({"w": jnp.zeros(3)}, {"w": jnp.ones(2, bool)})


def test_the_exact_channel_changes_nothing():
    sent = rows_of_table(a_table([True, True, False, True]))
    for channel in (exact(), compose(), compose(exact(), exact())):
        memory = channel.init(sent)
        _, out = channel.send(jax.random.key(0), memory, channel.numbers, sent)
        jax.tree.map(np.testing.assert_array_equal, out, sent)
