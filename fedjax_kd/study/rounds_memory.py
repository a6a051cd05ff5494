"""Whether all seeds of a study in rounds fit into memory at once, asked before training."""

import math

import jax

from fedjax_kd.study.contestants import Contestant
from fedjax_kd.study.memory import StudyTooLarge, device_limit_bytes
from fedjax_kd.study.rounds_setup import RoundsSetup
from fedjax_kd.training import Execution


def require_memory(
    contestant: Contestant,
    setup: RoundsSetup,
    execution: Execution,
    limit_bytes: int | None = None,
) -> None:
    """Refuses a study of which one contestant's arrays alone do not fit.

    Counted are the example table, the index tables, and the method's state twice (a program's
    argument and its result may live side by side). What is not counted comes on top: activations
    (of one client in the `sequential` form, but of all members of the pools in DFML), the copies of
    a shared extractor by which pFedAFM is scored, and all clients' models on every device while
    they are scored. So this finds what cannot fit; it does not promise that the rest does.

    Args:
        contestant: a method of the study.
        setup: the data and the users.
        execution: the devices.
        limit_bytes: of one device; None takes four fifths of what it has.

    Raises:
        StudyTooLarge: naming what is needed, what there is, and how many seeds would fit.
    """
    limit = device_limit_bytes(execution) if limit_bytes is None else limit_bytes
    people = setup.federation.people
    state = contestant.start
    clients = math.ceil(_bytes(state.clients) / execution.n_devices)
    tables = people.train, people.validation, people.test, people.unlabelled, people.public
    held = 2 * (clients + _bytes(state.server)) + _bytes(tables)
    per_seed = math.ceil(held / people.n_points)
    fixed = _bytes(setup.federation.table)
    needed = fixed + people.n_points * per_seed
    if needed > limit:
        fitting = max(0, (limit - fixed) // per_seed)
        raise StudyTooLarge(
            f"seeds: found {people.n_points}, which need {needed / 2**20:,.0f} MiB on a device at "
            f"once for {contestant.name}; allowed: {limit / 2**20:,.0f} MiB, room for {fitting} of "
            "them. Run the seeds in several studies, or give data.max_train, fewer users or "
            "smaller models"
        )


def _bytes(tree) -> int:
    return sum(leaf.dtype.itemsize * math.prod(leaf.shape) for leaf in jax.tree.leaves(tree))
