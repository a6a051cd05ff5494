"""Augmented pictures are the pictures, shifted, mirrored or with a hole, and nothing else."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from pydantic import ValidationError

from fedjax_kd.data import (
    AUGMENTATIONS,
    Crop,
    Erase,
    Flip,
    Source,
    augment,
    check_augmentation,
    example_table,
    gather,
    training_batch,
)

KEY = jax.random.key(3)
compiled = jax.jit(augment, static_argnums=0)


def source_of(inputs):
    labels = np.arange(len(inputs), dtype=np.int32) % 2
    return Source("tiny", inputs, labels, inputs[:0], labels[:0], 2, ("a", "b"))


def pictures(n=64, side=32):
    return np.random.default_rng(0).uniform(1.0, 2.0, (n, side, side, 3)).astype(np.float32)


def test_a_crop_is_a_window_of_the_padded_picture_and_every_place_occurs():
    inputs = pictures(400, 6)
    got = np.asarray(compiled((Crop(padding=1),), KEY, jnp.asarray(inputs)))
    padded = np.pad(inputs, ((0, 0), (1, 1), (1, 1), (0, 0)))
    places = []
    for picture, whole in zip(got, padded, strict=True):
        places.append(
            [
                (top, left)
                for top in range(3)
                for left in range(3)
                if np.array_equal(picture, whole[top : top + 6, left : left + 6])
            ]
        )
    assert all(len(found) == 1 for found in places)
    count = {place: places.count([place]) for place in {found[0] for found in places}}
    assert len(count) == 9
    assert min(count.values()) > 20  # 44 expected


def test_a_flip_mirrors_about_half_of_the_pictures():
    inputs = pictures(400, 4)
    got = np.asarray(compiled((Flip(),), KEY, jnp.asarray(inputs)))
    mirrored = np.asarray([np.array_equal(a, b[:, ::-1]) for a, b in zip(got, inputs, strict=True)])
    same = np.asarray([np.array_equal(a, b) for a, b in zip(got, inputs, strict=True)])
    assert (mirrored ^ same).all()
    assert 160 < mirrored.sum() < 240
    np.testing.assert_array_equal(
        compiled((Flip(probability=0.0),), KEY, jnp.asarray(inputs)), inputs
    )


def test_what_is_erased_is_one_rectangle_of_the_stated_area_and_shape():
    inputs = pictures(300)
    got = np.asarray(compiled((Erase(),), KEY, jnp.asarray(inputs)))
    hole = (got == 0).all(axis=-1)
    np.testing.assert_array_equal(got[~hole], inputs[~hole])
    erased = hole.any(axis=(1, 2))
    assert 110 < erased.sum() < 190
    areas, shapes = [], []
    for one in hole[erased]:
        rows, columns = np.flatnonzero(one.any(axis=1)), np.flatnonzero(one.any(axis=0))
        tall, wide = np.ptp(rows) + 1, np.ptp(columns) + 1
        assert one.sum() == tall * wide  # a full rectangle
        areas.append(tall * wide / 32**2)
        shapes.append(tall / wide)
    # Sides are whole pixels, so the bounds hold up to half a pixel on each.
    assert 0.03 < min(areas) < 0.06
    assert 0.17 < max(areas) < 0.22
    assert 0.4 < min(shapes) < 0.7
    assert 1.5 < max(shapes) < 2.5


def test_the_order_of_the_steps_counts():
    ones = jnp.ones((50, 8, 8, 1))
    hole_last = compiled((Crop(padding=4), Erase(probability=1.0)), KEY, ones)
    hole_first = compiled((Erase(probability=1.0), Crop(padding=4)), KEY, ones)
    assert not np.array_equal(hole_last, hole_first)
    assert [step.kind for step in AUGMENTATIONS["crop_flip"]] == ["crop", "flip"]
    assert [step.kind for step in AUGMENTATIONS["flip_erase_crop"]] == ["flip", "erase", "crop"]


@pytest.mark.parametrize("name", ["crop_flip", "flip_erase_crop"])
def test_a_picture_s_draw_is_its_place_s_own(name):
    inputs = jnp.asarray(pictures(12, 8))
    steps = AUGMENTATIONS[name]
    whole = compiled(steps, KEY, inputs)
    np.testing.assert_array_equal(compiled(steps, KEY, inputs[:5]), whole[:5])
    keys = jax.random.split(KEY, 2)
    rows = jax.jit(jax.vmap(lambda key: augment(steps, key, inputs)))(keys)
    for row, key in zip(rows, keys, strict=True):
        np.testing.assert_array_equal(row, compiled(steps, key, inputs))
    assert not np.array_equal(rows[0], rows[1])

    def body(step, inputs):
        return augment(steps, jax.random.fold_in(KEY, step), inputs)

    looped = jax.jit(lambda x: jax.lax.fori_loop(0, 2, body, x))(inputs)
    twice = inputs
    for step in range(2):
        twice = compiled(steps, jax.random.fold_in(KEY, step), twice)
    np.testing.assert_array_equal(looped, twice)


def test_a_training_batch_is_gathered_then_augmented():
    inputs = np.random.default_rng(1).integers(0, 256, (20, 8, 8, 3)).astype(np.uint8)
    indices = jnp.asarray([4, 4, 17, 0], jnp.int32)
    plain = example_table(source_of(inputs))
    table = example_table(source_of(inputs), augmentation=AUGMENTATIONS["crop_flip"])
    gathered, labels = gather(table, indices)
    got, got_labels = jax.jit(training_batch)(table, indices, KEY)
    expected = compiled(AUGMENTATIONS["crop_flip"], KEY, gathered)
    np.testing.assert_allclose(got, expected, rtol=1e-6)
    np.testing.assert_array_equal(got_labels, labels)
    assert not np.array_equal(got[0], got[1])  # one example twice, with draws of its own
    np.testing.assert_array_equal(training_batch(plain, indices, KEY)[0], gathered)


def test_without_augmentation_no_random_number_is_in_the_program():
    table = example_table(source_of(np.zeros((6, 4, 4, 1), np.uint8)))
    indices = jnp.arange(3)
    plain = str(jax.make_jaxpr(training_batch)(table, indices, KEY))
    assert "random" not in plain
    augmented = replace(table, augmentation=(Flip(),))
    assert "random" in str(jax.make_jaxpr(training_batch)(augmented, indices, KEY))


def test_what_is_no_picture_is_refused():
    with pytest.raises(
        ValueError, match=r"data\.augmentation: crop, flip, but .* shape \(100, 6\)"
    ):
        example_table(
            source_of(np.zeros((4, 100, 6), np.float32)), augmentation=AUGMENTATIONS["crop_flip"]
        )
    with pytest.raises(ValueError, match="only pictures"):
        augment((Flip(),), KEY, jnp.zeros((4, 6)))
    check_augmentation((), (100, 6))


@pytest.mark.parametrize(
    ("step", "values", "message"),
    [
        (Crop, {"padding": 0}, "padding"),
        (Flip, {"probability": 1.5}, "probability"),
        (Erase, {"area": (0.3, 0.2)}, r"area = \[0.3, 0.2\]; the first must not exceed"),
        (Erase, {"aspect": (0.0, 2.0)}, "aspect"),
    ],
)
def test_steps_that_cannot_be_are_refused(step, values, message):
    with pytest.raises(ValidationError, match=message):
        step(**values)
