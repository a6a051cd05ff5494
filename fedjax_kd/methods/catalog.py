"""The methods by name. Being in this table means being tested: the laws run over every entry."""

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import jax.numpy as jnp

from fedjax_kd.methods.contract import Method
from fedjax_kd.methods.decentralised_fedavg import decentralised_fedavg
from fedjax_kd.methods.decentralised_fml import FmlRates as DecentralisedFmlRates
from fedjax_kd.methods.decentralised_fml import decentralised_fml
from fedjax_kd.methods.def_kt import DefKtRates, def_kt
from fedjax_kd.methods.dfml import DfmlRates, dfml
from fedjax_kd.methods.ds_fl import DsFlRates, ds_fl
from fedjax_kd.methods.fd import FdRates, fd
from fedjax_kd.methods.fedavg import fedavg
from fedjax_kd.methods.feddf import FedDfRates, feddf
from fedjax_kd.methods.fedmd import FedMdRates, fedmd
from fedjax_kd.methods.fedproto import FedProtoRates, fedproto
from fedjax_kd.methods.fedprox import FedProxRates, fedprox
from fedjax_kd.methods.fml import FmlRates, fml
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
        receiver_reads: what whoever receives uploads, a server or a client in its place, has to
            see of them: nothing is sent, sums (so that a secure sum will do), or each by itself.
    """

    build: Callable[..., Method]
    default_hparams: Callable[[], Any]
    summary: str
    reference: str
    receiver_reads: Literal["nothing", "sums", "uploads"]


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
        receiver_reads="nothing",
    ),
    "fedavg": Entry(
        build=fedavg,
        default_hparams=lambda: rates(0.01),
        summary="one model, trained by everybody and averaged by the server",
        reference="McMahan et al. 2017, arXiv:1602.05629",
        receiver_reads="sums",
    ),
    "fd": Entry(
        build=fd,
        default_hparams=lambda: FdRates(rates(0.01), jnp.float32(1), jnp.float32(1)),
        summary="own models, which learn from the mean output of each class at the others",
        reference="Jeong et al. 2018, arXiv:1811.11479",
        receiver_reads="sums",
    ),
    "on_device_kd": Entry(
        build=on_device_kd,
        default_hparams=lambda: OnDeviceKdRates(
            rates(0.2, 0.9, 2e-4), rates(0.2, 0.9, 2e-4), **_ramp()
        ),
        summary="a small model of everybody's teaches a large one on the strong clients",
        reference="Lim et al. 2025, arXiv:2503.11151",
        receiver_reads="sums",
    ),
    "server_ensemble": Entry(
        build=server_ensemble,
        default_hparams=lambda: ServerEnsembleRates(
            rates(0.2, 0.9, 2e-4), rates(0.2, 0.9, 2e-4), rates(0.2, 0.9, 2e-4), **_ramp()
        ),
        summary="the server distils the clients' small models on unlabelled data pooled there",
        reference="what Lim et al. 2025, arXiv:2503.11151, argue against",
        receiver_reads="uploads",
    ),
    "dfml": Entry(
        build=dfml,
        default_hparams=lambda: DfmlRates(
            rates(0.01, 0.9, 5e-4), jnp.float32(1), jnp.float32(1), jnp.float32(0.9)
        ),
        summary="models of any architecture meet at one client a round and teach each other",
        reference="Khalil et al. 2024, arXiv:2402.01863",
        receiver_reads="uploads",
    ),
    "decentralised_fedavg": Entry(
        build=decentralised_fedavg,
        default_hparams=lambda: rates(0.01, 0.9, 5e-4),
        summary="one client a round averages models of equal architecture",
        reference="FedAvg (arXiv:1602.05629) without a server, as beside DFML, arXiv:2402.01863",
        receiver_reads="sums",
    ),
    "decentralised_fml": Entry(
        build=decentralised_fml,
        default_hparams=lambda: DecentralisedFmlRates(
            rates(0.01, 0.9, 5e-4), jnp.float32(0.5), jnp.float32(0.5)
        ),
        summary="own models learn with a small one that travels and is averaged",
        reference="Shen et al. 2020, arXiv:2006.16765, without a server",
        receiver_reads="sums",
    ),
    "def_kt": Entry(
        build=def_kt,
        default_hparams=lambda: DefKtRates(rates(0.01, 0.9, 5e-4), jnp.float32(1)),
        summary="clients meet in pairs, where a received model and an own one teach each other",
        reference="Li et al. 2021, arXiv:2012.13063",
        receiver_reads="uploads",
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
        receiver_reads="sums",
    ),
    "lg_fedavg": Entry(
        build=lg_fedavg,
        default_hparams=lambda: rates(0.01),
        summary="own extractors, and a head that the server averages",
        reference="Liang et al. 2020, arXiv:2001.01523",
        receiver_reads="sums",
    ),
    "fedproto": Entry(
        build=fedproto,
        default_hparams=lambda: FedProtoRates(rates(0.01, 0.5), jnp.float32(1)),
        summary="own models, whose features are drawn to the mean features of each class",
        reference="Tan et al. 2022, arXiv:2105.00243",
        receiver_reads="sums",
    ),
    "fedprox": Entry(
        build=fedprox,
        default_hparams=lambda: FedProxRates(rates(0.01), jnp.float32(0.01)),
        summary="FedAvg that holds clients near the model that they received",
        reference="Li et al. 2020, arXiv:1812.06127",
        receiver_reads="sums",
    ),
    "fml": Entry(
        build=fml,
        default_hparams=lambda: FmlRates(rates(0.01), jnp.float32(0.5), jnp.float32(0.5)),
        summary="own models learn with a copy of a small shared one, which is averaged",
        reference="Shen et al. 2020, arXiv:2006.16765",
        receiver_reads="sums",
    ),
    "fedmd": Entry(
        build=fedmd,
        default_hparams=lambda: FedMdRates(rates(0.01), rates(0.01)),
        summary="own models, which learn the mean logits of all for public examples",
        reference="Li and Wang 2019, arXiv:1910.03581",
        receiver_reads="sums",
    ),
    "ds_fl": Entry(
        build=ds_fl,
        default_hparams=lambda: DsFlRates(rates(0.1), rates(0.1), jnp.float32(0.1)),
        summary="own models, which learn the sharpened mean probabilities for public examples",
        reference="Itahara et al. 2021, arXiv:2008.06180",
        receiver_reads="sums",
    ),
    "feddf": Entry(
        build=feddf,
        default_hparams=lambda: FedDfRates(rates(0.1), rates(1e-3)),
        summary="models averaged by architecture, then taught by all clients on public examples",
        reference="Lin et al. 2020, arXiv:2006.07242",
        receiver_reads="uploads",
    ),
}
