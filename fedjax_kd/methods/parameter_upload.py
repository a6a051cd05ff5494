"""A client's parameters on their way to the server, through a channel.

An exact upload is the parameters as they are. Any other channel is given what training changed, and
the server adds what arrives to what it had sent: the numbers are small, all clients have the same
zero, and a clipped norm is that of the update (as McMahan et al. 2018, arXiv:1710.06963, clip it).
Running statistics of batch normalisation that go along are treated as parameters.

Through a secure sum, by which the server sees no upload by itself, a client sends its change times
its weight; the channel's range has to cover that. The weights are known to the server anyway.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import struct

from fedjax_kd.exchange import (
    Channel,
    bits_of,
    memory_of_clients,
    numbers_of,
    parameters_of_rows,
    rows_of_parameters,
)
from fedjax_kd.methods.client_work import AtHand
from fedjax_kd.training import Rates

Tree = Any


@struct.dataclass
class SendingRates:
    """Traced hyper-parameters of methods that have none but the optimiser's and the channel's.

    Attributes:
        optimiser: rates of local SGD.
        upload: the channel's numbers, see `exchange.traced_numbers`; `()` for none.
    """

    optimiser: Rates
    upload: Any = ()


class Arrived(NamedTuple):
    """What one client's upload comes to.

    Attributes:
        memory: what the channel remembers.
        weighted: what it adds to the server's sum: the model as it arrived, times its weight.
        model: the model as it arrived; None through a secure sum.
        bits: float32 scalar.
    """

    memory: Tree
    weighted: Tree
    model: Tree
    bits: jax.Array


def start_memory(upload: Channel, held: Tree, n_clients: int) -> Tree:
    """What a channel remembers of clients that have sent nothing yet, arrays [n_clients, ...].

    Args:
        upload: the channel.
        held: what the servers have of the kind that clients send, arrays [S, ...].
        n_clients: how many they are.
    """
    blank = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape[1:], leaf.dtype), held)
    return memory_of_clients(upload, rows_of_parameters(blank), n_clients)


def memory_in(own: dict[str, Tree], upload: Channel, held: Tree) -> Tree:
    """What a channel remembers of ONE client; a memory without arrays is not kept with the client.

    Args:
        own: what is kept with the client, the memory under `upload` if there is any.
        upload: the channel.
        held: what the client sends, of which only the shapes are read.
    """
    return own["upload"] if "upload" in own else upload.init(rows_of_parameters(held))


def send_parameters(
    upload: Channel, memory: Tree, received: Tree, trained: Tree, weight: jax.Array, at: AtHand
) -> Arrived:
    """Sends ONE client's parameters to a server that sums them.

    Args:
        upload: the channel.
        memory: what it remembers of the client.
        received: what the server had sent, a pytree of float32 arrays.
        trained: what became of it, the same pytree.
        weight: float32 scalar, how much the client counts.
        at: the client; the channel draws from its `channel_key`.

    Returns:
        What arrives.

    Raises:
        ValueError: if the channel has numbers and the hyper-parameters have none.
    """
    numbers = numbers_of(upload, () if isinstance(at.numbers, Rates) else at.numbers.upload)
    as_it_is = not upload.stages
    sent = trained if as_it_is else jax.tree.map(jnp.subtract, trained, received)
    if upload.sum_only:
        sent = jax.tree.map(lambda leaf: leaf * weight, sent)
    memory, way = upload.send(at.channel_key, memory, numbers, rows_of_parameters(sent))
    got = parameters_of_rows(way, sent)
    if upload.sum_only:
        weighted = jax.tree.map(lambda old, leaf: old * weight + leaf, received, got)
        return Arrived(memory, weighted, None, bits_of(way))
    model = got if as_it_is else jax.tree.map(jnp.add, received, got)
    return Arrived(memory, jax.tree.map(lambda leaf: leaf * weight, model), model, bits_of(way))


def optimiser_of(numbers: Tree) -> Rates:
    """The rates of local SGD among a method's hyper-parameters, which may be nothing else."""
    return numbers if isinstance(numbers, Rates) else numbers.optimiser
