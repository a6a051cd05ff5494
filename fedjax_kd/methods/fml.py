"""FML: private models of any architecture learn with a small one, the meme, which is averaged.

Shen et al. 2020, "Federated Mutual Learning", arXiv:2006.16765, its local losses and Algorithm 1:

    L_private = a CE(y, p_private) + (1 - a) KL(sg[p_meme] || p_private)
    L_meme    = b CE(y, p_meme)    + (1 - b) KL(sg[p_private] || p_meme)

State: the meme of each server, of one architecture for all; each client's private model.
Round: every participant receives the meme and trains both models in lockstep on its own examples;
the meme becomes the uniform mean of the participants' memes.

Views: `private`, the main one, and `meme`, the server's.

With a = b = 1 private models are `local` and the meme is FedAvg with equal weights. Public scripts
use 0.5 for both; their command line's default, 1, distils nothing. `faithful` does as public code
does, see `two_models`: nothing is detached, and KL is averaged over the classes too.
"""

from functools import lru_cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import struct

from fedjax_kd.clients import Purpose, draw_key
from fedjax_kd.exchange import Channel, exact
from fedjax_kd.methods.architectures import groups_of, init_models, weighted_mean
from fedjax_kd.methods.client_work import (
    AtHand,
    Training,
    as_models,
    each_client,
    one_phase,
    state_of,
)
from fedjax_kd.methods.contract import Federation, Method, Predictors, Round, RoundReport, State
from fedjax_kd.methods.local import own_models
from fedjax_kd.methods.parameter_average import predict_averages
from fedjax_kd.methods.parameter_upload import send_parameters, start_memory
from fedjax_kd.methods.two_models import learn_together
from fedjax_kd.models import Model, profile
from fedjax_kd.training import Execution, Rates
from fedjax_kd.training.local_update import Order


@struct.dataclass
class FmlRates:
    """Traced hyper-parameters of FML.

    Attributes:
        optimiser: rates of local SGD, of both models.
        private_hard: a in [0, 1], what the labels weigh in the private model's loss.
        meme_hard: b in [0, 1], what they weigh in the meme's.
        upload: the channel's numbers, see `exchange.traced_numbers`; `()` for none.
    """

    optimiser: Rates
    private_hard: jax.Array
    meme_hard: jax.Array
    upload: Any = ()


class Clients(NamedTuple):
    """A group's private models, variables [K_g, ...], and what its channels remember."""

    private: Any
    memory: Any


@lru_cache(maxsize=64)  # equal arguments give one method, and so one compiled program
def fml(
    models: Model | tuple[Model, ...],
    meme: Model,
    *,
    epochs: int,
    batch_size: int,
    execution: Execution,
    faithful: bool = False,
    upload: Channel = exact(),  # noqa: B008
    order: Order = "shuffled",
) -> Method:
    """FML with `FmlRates`, memes [S, ...] at the servers and `Clients` for each group.

    Args:
        models: the private architectures: one for all, or one per group of the federation.
        meme: the architecture that is shared.
        epochs: local epochs per round.
        batch_size: examples per step.
        execution: how the client axis is run.
        faithful: whether to do as public implementations do, see above.
        upload: what memes go through; see `parameter_upload`. The server needs sums only.
        order: of a client's examples; see `training.local_update`.

    Raises:
        ValueError: if the models or the meme differ in their inputs or classes.
    """
    found, training = as_models(models), Training(epochs, batch_size, execution, order)
    as_models((*found, meme))
    travels = profile(meme)
    flops = [
        float(epochs * (profile(own).training_flops + travels.training_flops)) for own in found
    ]

    def init(federation: Federation) -> State:
        people, groups = federation.people, groups_of(found, federation)
        memes = jax.vmap(lambda root: meme.init(draw_key(root, 0, Purpose.INIT)))(people.roots)
        clients = tuple(
            Clients(private, start_memory(upload, memes, len(members)))
            for private, members in zip(init_models(found, people, groups), groups, strict=True)
        )
        return state_of(memes, clients, execution)

    def client_of(model: Model):
        def client(own: Clients, at: AtHand):
            a, b = at.numbers.private_hard, at.numbers.meme_hard
            (private, trained), loss = learn_together(
                (model, meme),
                (own.private, at.server),
                ((a, 1.0 - a), (b, 1.0 - b)),
                at.numbers.optimiser,
                *(at.table, at.key, at.rows, at.count),
                epochs=epochs,
                batch_size=batch_size,
                order=order,
                faithful=faithful,
            )
            one = jnp.float32(1)
            arrived = send_parameters(upload, own.memory, at.server, trained, one, at)
            return Clients(private, arrived.memory), (arrived.weighted, one), (loss, arrived.bits)

        return client

    def round_(
        state: State, federation: Federation, hparams: FmlRates, round_: Round
    ) -> tuple[State, RoundReport]:
        run = partial(each_client, hparams=hparams, servers=state.server)
        clients, (totals, heard), (loss, bits) = run(
            client_of, found, state.clients, federation, round_, training
        )
        memes = weighted_mean(totals, heard, state.server)
        cost = partial(one_phase, flops_per_example=flops, downlink_bits=float(travels.bits))
        report = cost(found, federation, round_.active, training, loss, uplink_bits=bits)
        return state_of(memes, clients, execution), report

    def predict(state: State, federation: Federation) -> Predictors:
        private = own_models(found, tuple(own.private for own in state.clients), federation)
        return {"private": private, "meme": predict_averages(meme, state.server, federation)}

    return Method(init, round_, predict)
