"""What a user's choice of student and place asks of devices, links and server.

Delay table of the reconstruction (Wang et al. 2023, arXiv:2303.06155, whose text gives none):

| | on the device | at the server's twin |
|---|---|---|
| uplink | nothing | the examples that the twin does not hold yet |
| teacher inference | teacher flops / whole server | the same |
| training | flops / device speed | flops / share of the server |
| downlink | soft labels, 32 bits a class | the trained student |
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from fedjax_kd.system.fleet import Fleet

SOFT_LABEL_BITS = 32
"""Bits of one class's logit in a soft label, sent as float32."""


class Workload(NamedTuple):
    """Work and traffic of N users, each under one choice of student and place."""

    training_flops: jax.Array  # (N,) float32, of the student, wherever it trains
    teacher_flops: jax.Array  # (N,) float32, of soft-labelling the user's examples at the server
    uplink_bits: jax.Array  # (N,) float32
    downlink_bits: jax.Array  # (N,) float32
    at_server: jax.Array  # (N,) bool, place of training


def workload(
    *,
    training_flops_per_example: jax.Array,
    student_bits: jax.Array,
    teacher_flops_per_example: jax.Array | float,
    raw_bits_per_example: int,
    n_classes: int,
    epochs: int,
    samples: jax.Array,
    synchronised: jax.Array,
    labelled: jax.Array,
    at_server: jax.Array,
    teacher_inference: bool = True,
) -> Workload:
    """Counts the work and the bits of a choice, elementwise.

    Arrays broadcast against each other as scalars or (N,); a (N, M) table works as well.

    Args:
        training_flops_per_example: of the chosen student, forward and backward.
        student_bits: size of the chosen student, 32 bits a parameter.
        teacher_flops_per_example: of the teacher's forward pass.
        raw_bits_per_example: size of one stored example.
        n_classes: C, length of a soft label.
        epochs: passes over the user's examples.
        samples: D_n, training examples of the user.
        synchronised: how many of these the twin already holds.
        labelled: how many of these get a soft label; zero without distillation.
        at_server: True if the student trains at the twin.
        teacher_inference: whether the teacher's inference costs anything.

    Returns:
        The workload, with the broadcast shape.
    """
    at_server = jnp.asarray(at_server)
    counts = [jnp.asarray(count, jnp.float32) for count in (samples, synchronised, labelled)]
    samples, synchronised, labelled = counts
    teacher_flops = labelled * jnp.asarray(teacher_flops_per_example, jnp.float32)
    arrays = jnp.broadcast_arrays(
        jnp.asarray(training_flops_per_example, jnp.float32) * samples * float(epochs),
        teacher_flops if teacher_inference else jnp.zeros_like(teacher_flops),
        jnp.where(at_server, (samples - synchronised) * float(raw_bits_per_example), 0.0),
        jnp.where(
            at_server,
            jnp.asarray(student_bits, jnp.float32),
            labelled * float(n_classes * SOFT_LABEL_BITS),
        ),
        at_server,
    )
    return Workload(*arrays)


def synchronised_count(samples: np.ndarray, fraction: float) -> np.ndarray:
    """How many of each user's examples a twin holds that has the given share of them, rounded.

    Args:
        samples: (N,) integer counts.
        fraction: share in [0, 1].

    Returns:
        (N,) int32, from zero to `samples`; a half is rounded up.

    Raises:
        ValueError: if the fraction lies outside [0, 1].
    """
    if not 0.0 <= fraction <= 1.0:
        raise ValueError(f"fraction = {fraction}; must lie in [0, 1]")
    return np.floor(np.asarray(samples) * fraction + 0.5).astype(np.int32)


def device_training_s(workload: Workload, fleet: Fleet) -> jax.Array:
    """Delay (N,) of training on the device; zero for users who train at the server."""
    return jnp.where(workload.at_server, 0.0, workload.training_flops / fleet.device_flops_per_s)


def teacher_inference_s(workload: Workload, fleet: Fleet) -> jax.Array:
    """Delay (N,) of the teacher's inference, each user's at the speed of the whole server."""
    return workload.teacher_flops / fleet.server_flops_per_s
