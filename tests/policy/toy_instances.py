"""Small DT-KD instances with every delay in closed form, independent of the package.

Sum of delays, constant spectral efficiency (rate = bandwidth x efficiency), so the optimal split
of server compute and of both bands is the square-root rule and the total of a decision is a few
sums: (sum of roots)^2 / capacity. Prefixes of a decision are cumulative sums. All numbers are
assumptions, after the suggestions for simulating the paper; none is the paper's.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

BITS_PER_IMAGE = 32 * 32 * 3 * 8
CLASSES = 10
EPOCHS = 5
TRAINING_PER_FORWARD = 3
BANDWIDTH_HZ = 20e6


Array = jax.Array | np.ndarray


class ToyInstance(NamedTuple):
    """N users, A = 2M actions; place 1 (actions M..2M-1) is the server."""

    # float32 [N, A, 5], by user and action: seconds of training at the device (0 at the server);
    # sqrt(FLOPs / server speed) (0 at the device); sqrt(bits / (efficiency x band)) up (0 at the
    # device) and down (student or soft labels); accuracy.
    tables: Array
    delay_weight: Array  # float32 []
    reference_s: Array  # float32 [], mean total delay of random decisions


def _running_sums(instance, actions, xp):
    """Sums over the first 0..N users, [N+1, 5]: delay, three roots, accuracy."""
    chosen = instance.tables[xp.arange(actions.shape[0]), actions]
    return xp.concatenate([xp.zeros((1, 5), chosen.dtype), xp.cumsum(chosen, axis=0)])


def _delays(sums):
    return sums[:, 0] + sums[:, 1] ** 2 + sums[:, 2] ** 2 + sums[:, 3] ** 2


def _prefix_utility(instance, actions, xp):
    sums = _running_sums(instance, actions, xp)
    delay = instance.delay_weight * _delays(sums) / instance.reference_s
    return sums[:, 4] / float(actions.shape[0]) - delay


def prefix_utility(instance: ToyInstance, actions: jax.Array) -> jax.Array:
    """U after the first 0..N users, float32 [N+1], in JAX."""
    return _prefix_utility(instance, actions, jnp)


def prefix_utility_numpy(instance: ToyInstance, actions: np.ndarray) -> np.ndarray:
    """The same in NumPy, for an instance of NumPy arrays."""
    return _prefix_utility(instance, actions, np)


def total_delay(instance: ToyInstance, actions: jax.Array) -> jax.Array:
    """Total delay of a whole decision in seconds, []."""
    return _delays(_running_sums(instance, actions, jnp))[-1]


def toy_instance(
    seed: int, users: int = 5, students: int = 3, delay_weight: float = 0.5
) -> ToyInstance:
    """Draws one instance, as NumPy float32 arrays; `delay_weight` is lambda."""
    rng = np.random.default_rng(seed)
    samples = rng.integers(200, 2001, users)[:, None]
    forward_flops = np.sort(np.exp(rng.uniform(np.log(1e6), np.log(3e7), students)))[None, :]
    student_bits = 32 * np.sort(np.exp(rng.uniform(np.log(2e4), np.log(1e6), students)))[None, :]
    device_flops_per_s = rng.uniform(2e9, 4e9, users)[:, None]
    server_flops_per_s = rng.uniform(20e9, 40e9)
    bits_per_s = BANDWIDTH_HZ * rng.uniform(2.0, 6.0, (2, users, 1))

    size = np.log(forward_flops / 1e6) / np.log(30.0)
    accuracy = 0.55 + 0.25 * size + rng.normal(0.0, 0.04, (users, students))

    work_flops = TRAINING_PER_FORWARD * EPOCHS * samples * forward_flops
    raw_bits = np.broadcast_to(samples * BITS_PER_IMAGE, work_flops.shape)
    soft_bits = np.broadcast_to(samples * CLASSES * 32, work_flops.shape)
    student_bits = np.broadcast_to(student_bits, work_flops.shape)
    nothing = np.zeros_like(work_flops)

    columns = [
        (work_flops / device_flops_per_s, nothing),
        (nothing, np.sqrt(work_flops / server_flops_per_s)),
        (nothing, np.sqrt(raw_bits / bits_per_s[0])),
        (np.sqrt(soft_bits / bits_per_s[1]), np.sqrt(student_bits / bits_per_s[1])),
        (accuracy, accuracy),
    ]
    at_device, at_server = (np.stack(side, axis=-1) for side in zip(*columns, strict=True))
    instance = ToyInstance(
        tables=np.concatenate([at_device, at_server], axis=1).astype(np.float32),
        delay_weight=np.asarray(delay_weight, np.float32),
        reference_s=np.asarray(1, np.float32),
    )
    draws = rng.integers(0, 2 * students, (256, users))
    reference = np.mean([_delays(_running_sums(instance, draw, np))[-1] for draw in draws])
    return instance._replace(reference_s=np.asarray(reference, np.float32))


def stack(instances: list[ToyInstance]) -> ToyInstance:
    """Stacks instances of equal shape for `jax.vmap`."""
    return jax.tree.map(lambda *leaves: jnp.asarray(np.stack(leaves)), *instances)


def on_device(instance: ToyInstance) -> ToyInstance:
    """The instance as JAX arrays."""
    return jax.tree.map(jnp.asarray, instance)
