"""The runs: FD and DS-FL through channels of more and more noise, or of fewer and fewer bits.

All noise multipliers of a method are study points of one program; every number of bits is a program
of its own. Users, splits, initial models and batches are the same throughout.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd

from fedjax_kd.clients import population
from fedjax_kd.data import Dirichlet, build_split, example_table, host_rng, load_source
from fedjax_kd.exchange import (
    Channel,
    clip_and_noise,
    compose,
    exact,
    largest_remainder,
    secure_sum,
    traced_numbers,
    uniform,
)
from fedjax_kd.exchange.accountant import noise_multiplier
from fedjax_kd.methods.contract import Federation, Method
from fedjax_kd.methods.ds_fl import DsFlRates, ds_fl
from fedjax_kd.methods.fd import FdRates, fd
from fedjax_kd.methods.local import local
from fedjax_kd.methods.rounds import run_rounds
from fedjax_kd.methods.scores import client_accuracies
from fedjax_kd.models import Model, build_model
from fedjax_kd.training import Execution, default_execution, everywhere, for_points, rates

DELTA = 1e-5
EXACT_BITS = 32.0


class Terms(NamedTuple):
    """What is run."""

    source: str
    seeds: tuple[int, ...]
    users: int
    examples: int  # of a user, at most
    public: int
    rounds: int
    epochs: int
    batch_size: int
    hidden: int
    alpha: float
    learning_rate: float
    epsilons: tuple[float, ...]
    bits: tuple[int, ...]


COMMITTED = Terms(
    source="fashion_mnist",
    seeds=(0, 1, 2),
    users=100,
    examples=40,
    public=200,
    rounds=20,
    epochs=2,
    batch_size=16,
    hidden=64,
    alpha=1.0,
    learning_rate=0.1,
    epsilons=(1.0, 4.0, 16.0, 64.0, 256.0, 1024.0),
    bits=(1, 2, 4, 8),
)
QUICK = COMMITTED._replace(
    source="digits",
    seeds=(0, 1),
    users=10,
    examples=40,
    public=60,
    rounds=3,
    hidden=16,
    epsilons=(4.0, 1024.0),
    bits=(1, 8),
)


class Kind(NamedTuple):
    """One method as it is run here.

    Attributes:
        title: as a reader sees it.
        clip: norm that no upload exceeds, so that clipping changes nothing.
        build: `(Channel) -> Method`.
        hparams: `(the channel's numbers) -> hyper-parameters`.
        quantiser: `(bits) -> Channel`.
        largest: no number of an upload exceeds it.
    """

    title: str
    clip: float
    build: Callable[[Channel], Method]
    hparams: Callable[[Any], Any]
    quantiser: Callable[[int], Channel]
    largest: float


def trade_off(terms: Terms, tell: Callable[[str], None]) -> pd.DataFrame:
    """Runs everything.

    Args:
        terms: what.
        tell: told what comes next.

    Returns:
        One row per method, channel and seed: `method, channel, epsilon, multiplier, bits` (asked
        for), `uplink_bits` (of a client and round, mean), `seed, accuracy` (own test data, last
        round, 0 to 1).
    """
    source = load_source(terms.source)
    execution = for_points(default_execution(), len(terms.seeds))
    model = build_model(
        "mlp",
        input_shape=source.input_shape,
        n_classes=source.n_classes,
        hidden=(terms.hidden,),
    )
    splits = [
        build_split(
            source,
            Dirichlet(alpha=terms.alpha, min_examples=20),
            terms.users,
            rng=host_rng(seed, "split"),
            max_train=terms.examples,
            n_public=terms.public,
        )
        for seed in terms.seeds
    ]
    table = example_table(source)

    def federation_of(repeats: int) -> Federation:
        people = population(terms.seeds * repeats, splits * repeats)
        return everywhere(Federation(table, people), execution)

    rows: list[dict[str, Any]] = []

    def record(method: str, channel: str, played: Played, points: Sequence[dict[str, Any]]):
        for place, about in enumerate(points):
            for number, seed in enumerate(terms.seeds):
                at = place * len(terms.seeds) + number
                rows.append(
                    {
                        "method": method,
                        "channel": channel,
                        **about,
                        "uplink_bits": float(played.uplink_bits[at]),
                        "seed": seed,
                        "accuracy": float(played.accuracy[at]),
                    }
                )

    tell("Local")
    alone = local(model, epochs=terms.epochs, batch_size=terms.batch_size, execution=execution)
    played = _play(alone, rates(terms.learning_rate), federation_of(1), terms, execution)
    record("local", "nothing sent", played, [{}])
    for name, kind in _kinds(terms, model, execution).items():
        tell(f"{kind.title}, noise")
        points, channel, numbers = _noises(terms, kind)
        method = kind.build(channel)
        played = _play(method, kind.hparams(numbers), federation_of(len(points)), terms, execution)
        record(name, "noise", played, points)
        for label, bits, channel in _bit_channels(terms, kind):
            tell(f"{kind.title}, {label} at {bits} bits")
            hparams = kind.hparams(traced_numbers(channel))
            played = _play(kind.build(channel), hparams, federation_of(1), terms, execution)
            record(name, label, played, [{"bits": bits, "epsilon": np.inf}])
    return pd.DataFrame(rows)


class Played(NamedTuple):
    """What a run came to at each of S points."""

    accuracy: np.ndarray  # [S]
    uplink_bits: np.ndarray  # [S], of a client and round


def _play(
    method: Method, hparams: Any, federation: Federation, terms: Terms, execution: Execution
) -> Played:
    def own_accuracy(state, federation):
        predictors = next(iter(method.predict(state, federation).values()))
        return client_accuracies(predictors, federation, execution)[0]

    state = jax.jit(method.init)(federation)
    _, history = run_rounds(
        method,
        state,
        federation,
        everywhere(hparams, execution),
        rounds=terms.rounds,
        execution=execution,
        observe=own_accuracy,
        observe_every=terms.rounds,
    )
    last = np.asarray(history.observed)[-1]
    n_points = federation.people.n_points
    sent = np.asarray(history.report.uplink_bits).mean(axis=0)
    return Played(last.reshape(n_points, -1).mean(axis=1), sent.reshape(n_points, -1).mean(axis=1))


def _kinds(terms: Terms, model: Model, execution: Execution) -> dict[str, Kind]:
    shared = {"epochs": terms.epochs, "batch_size": terms.batch_size, "execution": execution}
    values = rates(terms.learning_rate)
    one = jnp.float32(1)
    return {
        # Each of C rows is a mean probability vector and the number 1.
        "fd": Kind(
            title="FD, class tables",
            clip=float(np.sqrt(2.0 * model.n_classes)),
            build=lambda channel: fd(model, **shared, upload=channel),
            hparams=lambda numbers: FdRates(values, one, one, numbers),
            quantiser=uniform,
            largest=1.0,
        ),
        "ds_fl": Kind(
            title="DS-FL, public scores",
            clip=float(np.sqrt(terms.public)),
            build=lambda channel: ds_fl(model, **shared, upload=channel),
            hparams=lambda numbers: DsFlRates(values, values, jnp.float32(0.1), numbers),
            quantiser=largest_remainder,
            largest=1.0,
        ),
    }


def _noises(terms: Terms, kind: Kind) -> tuple[list[dict[str, Any]], Channel, Any]:
    """The study points, seeds within epsilons, and the channel with one multiplier for each."""
    epsilons = (np.inf, *sorted(terms.epsilons, reverse=True))
    multipliers = [
        0.0 if np.isinf(each) else noise_multiplier(each, terms.rounds, delta=DELTA)
        for each in epsilons
    ]
    channel = clip_and_noise(kind.clip, participants=terms.users, noise="share")
    per_point = np.repeat(np.asarray(multipliers, np.float32), len(terms.seeds))
    numbers = replace_multiplier(traced_numbers(channel), jnp.asarray(per_point))
    points = [
        {"epsilon": epsilon, "multiplier": multiplier, "bits": EXACT_BITS}
        for epsilon, multiplier in zip(epsilons, multipliers, strict=True)
    ]
    return points, channel, numbers


def replace_multiplier(numbers: Any, multiplier: jax.Array) -> Any:
    """The numbers of `clip_and_noise` with another multiplier, scalar or [S]."""
    return numbers._replace(multiplier=multiplier)


def _bit_channels(terms: Terms, kind: Kind) -> Iterator[tuple[str, float, Channel]]:
    yield "exact", EXACT_BITS, exact()
    for bits in terms.bits:
        yield "quantised", bits, kind.quantiser(bits)
    for bits in terms.bits:
        masked = secure_sum(bits, terms.users, kind.largest, signed=False)
        yield "secure sum", bits, compose(masked)
