"""The methods by name. Being in this table means being tested: the laws run over every entry."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp

from fedjax_kd.methods.contract import Method
from fedjax_kd.methods.fd import FdRates, fd
from fedjax_kd.methods.fedavg import fedavg
from fedjax_kd.training import rates


class Entry(NamedTuple):
    """One method.

    Attributes:
        build: `(model, *, epochs, batch_size, execution, **options) -> Method`; `options` are the
            method's own static ones.
        default_hparams: makes the hyper-parameters that are used where a study gives none; a
            function, so that importing the table touches no device.
        summary: what the method does, in a line.
        reference: the paper.
    """

    build: Callable[..., Method]
    default_hparams: Callable[[], Any]
    summary: str
    reference: str


METHODS: dict[str, Entry] = {
    "fedavg": Entry(
        build=fedavg,
        default_hparams=lambda: rates(0.01),
        summary="one model, trained by everybody and averaged by the server",
        reference="McMahan et al. 2017, arXiv:1602.05629",
    ),
    "fd": Entry(
        build=fd,
        default_hparams=lambda: FdRates(rates(0.01), jnp.float32(1), jnp.float32(1)),
        summary="own models, which learn from the mean output of each class at the others",
        reference="Jeong et al. 2018, arXiv:1811.11479",
    ),
}
