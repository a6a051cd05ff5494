"""The methods by name. Being in this table means being tested: the laws run over every entry."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp

from fedjax_kd.methods.contract import Method
from fedjax_kd.methods.decentralised_fedavg import decentralised_fedavg
from fedjax_kd.methods.decentralised_fml import FmlRates, decentralised_fml
from fedjax_kd.methods.def_kt import DefKtRates, def_kt
from fedjax_kd.methods.dfml import DfmlRates, dfml
from fedjax_kd.methods.fd import FdRates, fd
from fedjax_kd.methods.fedavg import fedavg
from fedjax_kd.methods.fedproto import FedProtoRates, fedproto
from fedjax_kd.methods.lg_fedavg import lg_fedavg
from fedjax_kd.methods.local import local
from fedjax_kd.methods.on_device_kd import OnDeviceKdRates, on_device_kd
from fedjax_kd.methods.pfedafm import PFedAfmRates, pfedafm
from fedjax_kd.methods.server_ensemble import ServerEnsembleRates, server_ensemble
from fedjax_kd.training import rates


class Entry(NamedTuple):
    """One method.

    Attributes:
        build: makes the `Method` from its architectures (one, one per group, or two with roles of
            their own) and static options; `execution` among them.
        default_hparams: makes the hyper-parameters that are used where a study gives none; a
            function, so that importing the table touches no device.
        summary: what the method does, in a line.
        reference: the paper.
    """

    build: Callable[..., Method]
    default_hparams: Callable[[], Any]
    summary: str
    reference: str


def _ramp() -> dict[str, Any]:
    return {
        "temperature": jnp.float32(3),
        "weight": jnp.float32(0.5),
        "ramp_rounds": jnp.float32(300),
    }


METHODS: dict[str, Entry] = {
    "local": Entry(
        build=local,
        default_hparams=lambda: rates(0.01),
        summary="own models, trained alone: the row that every exchange has to beat",
        reference="the local training of McMahan et al. 2017, arXiv:1602.05629",
    ),
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
    "on_device_kd": Entry(
        build=on_device_kd,
        default_hparams=lambda: OnDeviceKdRates(
            rates(0.2, 0.9, 2e-4), rates(0.2, 0.9, 2e-4), **_ramp()
        ),
        summary="a small model of everybody's teaches a large one on the strong clients",
        reference="Lim et al. 2025, arXiv:2503.11151",
    ),
    "server_ensemble": Entry(
        build=server_ensemble,
        default_hparams=lambda: ServerEnsembleRates(
            rates(0.2, 0.9, 2e-4), rates(0.2, 0.9, 2e-4), rates(0.2, 0.9, 2e-4), **_ramp()
        ),
        summary="the server distils the clients' small models on unlabelled data pooled there",
        reference="what Lim et al. 2025, arXiv:2503.11151, argue against",
    ),
    "dfml": Entry(
        build=dfml,
        default_hparams=lambda: DfmlRates(
            rates(0.01, 0.9, 5e-4), jnp.float32(1), jnp.float32(1), jnp.float32(0.9)
        ),
        summary="models of any architecture meet at one client a round and teach each other",
        reference="Khalil et al. 2024, arXiv:2402.01863",
    ),
    "decentralised_fedavg": Entry(
        build=decentralised_fedavg,
        default_hparams=lambda: rates(0.01, 0.9, 5e-4),
        summary="one client a round averages models of equal architecture",
        reference="FedAvg (arXiv:1602.05629) without a server, as beside DFML, arXiv:2402.01863",
    ),
    "decentralised_fml": Entry(
        build=decentralised_fml,
        default_hparams=lambda: FmlRates(
            rates(0.01, 0.9, 5e-4), jnp.float32(0.5), jnp.float32(0.5)
        ),
        summary="own models learn with a small one that travels and is averaged",
        reference="Shen et al. 2020, arXiv:2006.16765, without a server",
    ),
    "def_kt": Entry(
        build=def_kt,
        default_hparams=lambda: DefKtRates(rates(0.01, 0.9, 5e-4), jnp.float32(1)),
        summary="clients meet in pairs, where a received model and an own one teach each other",
        reference="Li et al. 2021, arXiv:2012.13063",
    ),
    "pfedafm": Entry(
        build=pfedafm,
        default_hparams=lambda: PFedAfmRates(
            local=rates(0.01, 0.9, 1e-3, 50.0),
            shared=rates(0.01, 0.9, 1e-3, 50.0),
            mixing=rates(0.01, 0.9, 1e-3),
        ),
        summary="own features are mixed with those of a shared small extractor, by a learnt vector",
        reference="Yi et al. 2024, arXiv:2404.17847",
    ),
    "lg_fedavg": Entry(
        build=lg_fedavg,
        default_hparams=lambda: rates(0.01),
        summary="own extractors, and a head that the server averages",
        reference="Liang et al. 2020, arXiv:2001.01523",
    ),
    "fedproto": Entry(
        build=fedproto,
        default_hparams=lambda: FedProtoRates(rates(0.01, 0.5), jnp.float32(1)),
        summary="own models, whose features are drawn to the mean features of each class",
        reference="Tan et al. 2022, arXiv:2105.00243",
    ),
}
