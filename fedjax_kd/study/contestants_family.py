"""From the settings of a study of the family to its methods and their numbers."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import jax.numpy as jnp

from fedjax_kd.exchange import traced_numbers, without_numbers
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
from fedjax_kd.methods.parameter_upload import SendingRates
from fedjax_kd.study.contestant_rates import Built, rates_of
from fedjax_kd.study.rounds_setup import RoundsSetup
from fedjax_kd.study.settings_family import FamilyStudy
from fedjax_kd.study.settings_upload import ClipAndNoise
from fedjax_kd.study.upload_channel import channel_of
from fedjax_kd.training import Execution, Rates, rates


def family_contestant(
    settings: FamilyStudy, setup: RoundsSetup, name: str, execution: Execution
) -> Built:
    """A method of the family and its hyper-parameters.

    Args:
        settings: the study.
        setup: its data and models.
        name: of the contestant.
        execution: how its clients are run.

    Raises:
        ValueError: if the method refuses its models, its options or what happens to the uploads.
    """
    _check_clips(settings, setup.source.n_classes, name)
    channel = channel_of(settings)
    values, numbers = rates_of(settings, name), traced_numbers(channel)
    build, options, hparams = _parts(settings, setup, name, values, numbers)
    if name != "local":
        options["upload"] = without_numbers(channel)
    try:
        method = build(
            setup.models("user"),
            epochs=settings.training.epochs,
            batch_size=settings.training.batch_size,
            execution=execution,
            **options,
        )
    except ValueError as error:
        raise ValueError(f"contestants: {name}: {error}") from error
    return method, hparams


def _check_clips(settings: FamilyStudy, n_classes: int, name: str) -> None:
    """Each class of a table has a count of 1 beside its vector: the clip has to leave it room."""
    for index, step in enumerate(settings.upload):
        if not isinstance(step, ClipAndNoise) or name not in ("fd", "fedproto"):
            continue
        if step.clip**2 <= n_classes:
            raise ValueError(
                f"upload.{index}.clip: found {step.clip:g}; allowed with {name}: above "
                f"{n_classes**0.5:.3g}, the square root of the number of classes, each of which "
                "has a count of 1 beside its vector"
            )


def _parts(
    settings: FamilyStudy, setup: RoundsSetup, name: str, values: Rates, upload: Any
) -> tuple[Callable[..., Any], dict[str, Any], Any]:
    """The builder of a contestant, its own options and its hyper-parameters."""
    public = settings.public_set
    digest = replace(values, learning_rate=jnp.float32(public.digest_learning_rate))
    drawn: int | None = public.per_round
    if settings.data.public is not None and drawn == settings.data.public.examples:
        drawn = None  # all of them, in the same order in every round
    asked = {"per_round": drawn, "public_batch_size": public.batch_size}
    if name == "local":
        return local, {}, values
    if name == "fedavg":
        return fedavg, {}, SendingRates(values, upload)
    if name == "fedprox":
        return fedprox, {}, FedProxRates(values, jnp.float32(settings.proximal), upload)
    if name == "lg_fedavg":
        return lg_fedavg, {}, SendingRates(values, upload)
    if name == "fd":
        soft = jnp.float32(settings.fd_weight), jnp.float32(settings.fd_temperature)
        return fd, {}, FdRates(values, *soft, upload)
    if name == "fedproto":
        return fedproto, {}, FedProtoRates(values, jnp.float32(settings.prototype_weight), upload)
    if name == "fml":
        hard = jnp.float32(settings.fml_hard), jnp.float32(settings.fml_meme_hard)
        return fml, {"meme": setup.model("meme")}, FmlRates(values, *hard, upload)
    if name == "fedmd":
        options = {
            "digest_epochs": public.digest_epochs,
            "public_epochs": public.pretraining_epochs,
            "private_epochs": public.pretraining_own_epochs,
        }
        return fedmd, {**asked, **options}, FedMdRates(values, digest, upload)
    if name == "ds_fl":
        options = {"digest_epochs": public.digest_epochs, "sharpen": public.sharpen.kind}
        strength = jnp.float32(public.sharpen.chosen_strength)
        return ds_fl, {**asked, **options}, DsFlRates(values, digest, strength, upload)
    options = {"server_steps": public.server_steps, "server_optimiser": public.server_optimiser}
    server = rates(public.server_learning_rate)
    return feddf, {**asked, **options}, FedDfRates(values, server, upload)
