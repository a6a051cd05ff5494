"""Whether all seeds of a DT-KD study fit into memory at once, asked before anything is trained."""

import math

from fedjax_kd.study.dt_kd_setup import Setup
from fedjax_kd.study.memory import StudyTooLarge, device_limit_bytes
from fedjax_kd.study.settings import DtKdStudy
from fedjax_kd.training import Execution


def require_memory(
    settings: DtKdStudy, setup: Setup, execution: Execution, limit_bytes: int | None = None
) -> None:
    """Refuses a study whose arrays alone do not fit.

    Counted are the example table, the index tables, one student per user (twice: a program's
    argument and its result may live side by side) and the soft labels. Activations come on top, but
    in the `sequential` form they are those of one client. `fedjax_kd.study.memory.estimate` asks
    the compiler instead, at the price of compiling.

    Args:
        settings: the study.
        setup: its data, users and architectures.
        execution: the devices.
        limit_bytes: of one device; None takes four fifths of what it has.

    Raises:
        StudyTooLarge: naming what is needed, what there is, and how many seeds would fit.
    """
    limit = device_limit_bytes(execution) if limit_bytes is None else limit_bytes
    people = setup.federation.people
    held = people.train.indices.shape
    largest = max(profile.bits for profile in setup.profiles) // 8
    labels = 4 * held[1] * setup.source.n_classes
    tables = sum(
        4 * math.prod(table.indices.shape)
        for table in (people.train, people.validation, people.test)
    )
    per_device = math.ceil(people.n_users / execution.n_devices)
    per_seed = per_device * (2 * largest + labels) + tables // people.n_points
    fixed = setup.federation.table.inputs.nbytes
    needed = fixed + people.n_points * per_seed
    if needed > limit:
        fitting = max(0, (limit - fixed) // per_seed)
        raise StudyTooLarge(
            f"seeds: found {setup.points.count}, which need {needed / 2**20:,.0f} MiB on a device "
            f"at once; allowed: {limit / 2**20:,.0f} MiB, room for {fitting} of them. Run the "
            "seeds in several studies, or give data.max_train, fewer users or a smaller student"
        )
