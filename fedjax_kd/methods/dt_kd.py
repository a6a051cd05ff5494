"""DT-KD: a teacher at the server's digital twin, students that the users choose for themselves.

Wang et al. 2023, "Digital Twin-Assisted Knowledge Distillation Framework for Heterogeneous
Federated Learning", arXiv:2303.06155. The paper's text gives the structure: one big teacher trained
where the digital twins live, a student architecture and a training place per user, distillation on
the user's private examples, Q-learning for the discrete choice and convex optimisation for the
resources. Every equation, constant and default here is our reconstruction.

    1. train the teacher on what the digital twins hold; freeze it            fedavg.py
    2. label the users' examples softly; distil every student for every
       user and score it: the accuracy table A[n, m]                          this file
    3. Q-learning picks (m_n, a_n); inside each step a convex allocation
       shares bandwidth and server compute                                    dt_kd_decide.py
    4. train the chosen students anew, report and price them                  this file, system/

This file is the learning part (2 and 4). The student of user n with architecture m minimises

    (1 - w) CE(y, p_s) + w T^2 KL(p_t^T || p_s^T)

over its own examples. The same update runs on the device or at the server, so the place changes the
result only through which examples have soft labels: a device gets none for examples that the twin
does not hold (settings `twin`).

Deviation: the reconstruction's accuracy table ignores the place altogether; that is
`twin.unsynchronised_labels: free`, and both agree when everything is synchronised.

Expected on the embedded digits (5 users, Dirichlet 0.5): distilled students beat undistilled ones
of the same architecture on the common test set.
"""

from functools import partial

import jax
import jax.numpy as jnp
from flax import struct

from fedjax_kd.clients import Purpose, client_keys, per_client
from fedjax_kd.data import training_batch
from fedjax_kd.distill import distillation_loss, masked_mean
from fedjax_kd.methods.contract import Federation, Predictor
from fedjax_kd.models import Model
from fedjax_kd.training import (
    Execution,
    Rates,
    local_update,
    logits_of_rows,
    run_clients,
    settled,
    sgd,
)
from fedjax_kd.training.local_update import Variables


@struct.dataclass
class DistillationRates:
    """Traced hyper-parameters of a student's training.

    Attributes:
        optimiser: rates of SGD.
        temperature: T > 0.
        weight: w in [0, 1], the share of the soft loss.
    """

    optimiser: Rates
    temperature: jax.Array
    weight: jax.Array


@partial(jax.jit, static_argnames=("model", "execution"))
def soft_labels(
    model: Model, teacher: Predictor, federation: Federation, *, execution: Execution
) -> jax.Array:
    """The frozen teacher's logits for every client's training rows.

    Args:
        model: the teacher's architecture.
        teacher: one model per study point, and which of them labels client k.
        federation: K clients.
        execution: how the client axis is run.

    Returns:
        float32 [K, n_max, C], zeros past each client's count.
    """
    people = federation.people

    def one_client(state, inputs, shared):
        row, rows, count = inputs
        stack, table = shared
        variables = jax.tree.map(lambda leaf: leaf[row], stack)
        return state, logits_of_rows(model, variables, table, rows, count)

    _, logits = run_clients(
        one_client,
        (),
        (teacher.row, people.train.indices, people.train.counts),
        (teacher.stack, federation.table),
        jnp.ones(people.n_clients, bool),
        execution,
    )
    return settled(jax.lax.stop_gradient(logits), execution, axis="clients")


@partial(jax.jit, static_argnames=("model", "execution"))
def init_students(
    model: Model, federation: Federation, stage: jax.Array, *, execution: Execution
) -> Variables:
    """A fresh student for every client.

    Args:
        model: the students' architecture.
        federation: K clients.
        stage: int32 scalar; another stage draws other initial weights.
        execution: how the client axis is run.

    Returns:
        Variables stacked [K, ...].
    """
    students = jax.vmap(model.init)(client_keys(federation.people, stage, Purpose.INIT))
    return settled(students, execution, axis="clients")


@partial(
    jax.jit,
    static_argnames=("model", "epochs", "batch_size", "execution"),
    donate_argnames=("students",),
)
def distil(
    model: Model,
    students: Variables,
    federation: Federation,
    labels: jax.Array,
    labelled: jax.Array,
    hparams: DistillationRates,
    stage: jax.Array,
    active: jax.Array,
    *,
    epochs: int,
    batch_size: int,
    execution: Execution,
) -> tuple[Variables, jax.Array]:
    """Trains the active clients' students on their own examples.

    Args:
        model: the students' architecture.
        students: variables [K, ...], given away to the call.
        federation: K clients.
        labels: float32 [K, n_max, C], the teacher's logits.
        labelled: int32 [K], how many of each client's first rows have a soft label; 0 is training
            without a teacher.
        hparams: traced hyper-parameters, scalars or [S].
        stage: int32 scalar that names the batch order's draws.
        active: bool [K]; the other students come back unchanged.
        epochs: static.
        batch_size: static.
        execution: how the client axis is run.

    Returns:
        The students, and float32 [K]: mean loss of the last epoch, 0 for inactive clients.
    """
    people = federation.people

    def one_client(student, inputs, shared):
        key, rows, count, soft, soft_count, hparams = inputs
        (table,) = shared

        def batch_loss(params, stats, batch):
            examples, truth = training_batch(table, rows[batch.positions], batch.key)
            logits, stats = model.apply(
                {"params": params, "stats": stats}, examples, train=True, mask=batch.mask
            )
            has_soft_label = (batch.positions < soft_count).astype(jnp.float32)
            one_example = partial(
                distillation_loss, temperature=hparams.temperature, weight=hparams.weight
            )
            losses = jax.vmap(one_example)(logits, truth, soft[batch.positions], has_soft_label)
            return masked_mean(losses, batch.mask), stats

        return local_update(
            key,
            student,
            count,
            batch_loss,
            sgd(hparams.optimiser),
            capacity=rows.shape[0],
            epochs=epochs,
            batch_size=batch_size,
        )

    keys = client_keys(people, stage, Purpose.BATCH_ORDER)
    own_hparams = per_client(hparams, people)
    inputs = (keys, people.train.indices, people.train.counts, labels, labelled, own_hparams)
    shared = (federation.table,)
    students, loss = run_clients(
        one_client, students, inputs, shared, active, execution, work=people.train.counts
    )
    return settled(students, execution, axis="clients"), loss


def own_student(students: Variables, federation: Federation) -> Predictor:
    """Every client predicts with its own student."""
    return Predictor(stack=students, row=jnp.arange(federation.people.n_clients, dtype=jnp.int32))
