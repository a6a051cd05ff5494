"""From a study's settings to its contestants: the only place that knows how methods are built."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from fedjax_kd.methods.contract import Federation, Method, State
from fedjax_kd.methods.decentralised_fedavg import decentralised_fedavg
from fedjax_kd.methods.decentralised_fml import FmlRates, decentralised_fml
from fedjax_kd.methods.def_kt import DefKtRates, def_kt
from fedjax_kd.methods.dfml import DfmlRates, dfml
from fedjax_kd.methods.dfml_cycle import Schedule
from fedjax_kd.methods.fedproto import FedProtoRates, fedproto
from fedjax_kd.methods.lg_fedavg import lg_fedavg
from fedjax_kd.methods.local import local
from fedjax_kd.methods.on_device_kd import OnDeviceKdRates, on_device_kd
from fedjax_kd.methods.pfedafm import PFedAfmRates, pfedafm
from fedjax_kd.methods.server_ensemble import ServerEnsembleRates, server_ensemble
from fedjax_kd.models import Model
from fedjax_kd.study.contestant_names import CONTESTANTS
from fedjax_kd.study.contestant_rates import Built, rates_of, training_rates
from fedjax_kd.study.contestants_family import family_contestant
from fedjax_kd.study.plan import Job, Plan
from fedjax_kd.study.points import PointRefused, stacked
from fedjax_kd.study.rounds_setup import RoundsSetup
from fedjax_kd.study.settings_dfml import DfmlStudy
from fedjax_kd.study.settings_family import FamilyStudy
from fedjax_kd.study.settings_on_device_kd import OnDeviceKdStudy
from fedjax_kd.study.settings_pfedafm import PFedAfmStudy
from fedjax_kd.study.studies import RoundsStudy, reference_of
from fedjax_kd.training import Execution, for_points, rates

Role = Literal["proposed", "variant", "baseline", "reference"]


class Contestant(NamedTuple):
    """A method of a study with its numbers.

    Attributes:
        name: as the settings have it.
        title: as a reader sees it.
        role: the first contestant is the proposed one, the others vary it or are baselines; where
            none is proposed, one of them is the reference.
        method: its functions.
        hparams: its hyper-parameters, scalars, or [S] where points differ.
        execution: how its clients are run.
        start: shapes of its state.
        views: names of what its users predict with, the main one first.
    """

    name: str
    title: str
    role: Role
    method: Method
    hparams: Any
    execution: Execution
    start: State
    views: tuple[str, ...]


def contestants(settings: RoundsStudy, setup: RoundsSetup, plan: Plan) -> tuple[Contestant, ...]:
    """The study's contestants, in the order of the settings; nothing is compiled.

    One form of execution runs all clients of a contestant, that of the dearest model it trains.

    Args:
        settings: the study.
        setup: its data and models.
        plan: how clients of each architecture are run.

    Raises:
        ValueError: if a method refuses its models or options.
    """
    found = []
    for place, name in enumerate(settings.contestants):
        known = CONTESTANTS[settings.method][name]
        chosen = plan.of(dearest(settings, setup, name), settings.training.batch_size)
        execution = for_points(chosen, len(setup.points.seeds))
        built = [
            _of_point(place, point, setup, name, execution)
            for place, point in enumerate(setup.points.settings)
        ]
        method, hparams = built[0][0], stacked([numbers for _, numbers in built])
        role = _role(settings, place, name)
        start = jax.eval_shape(method.init, setup.federation)
        views = _views(method, start, setup.federation)
        found.append(Contestant(name, known.title, role, method, hparams, execution, start, views))
    return tuple(found)


def _role(settings: RoundsStudy, place: int, name: str) -> Role:
    reference = reference_of(settings)
    if reference is not None:
        return "reference" if name == reference else "baseline"
    if place == 0:
        return "proposed"
    return "variant" if CONTESTANTS[settings.method][name].variant else "baseline"


def _views(method: Method, start: State, federation: Federation) -> tuple[str, ...]:
    names: list[str] = []

    def named(state, federation):
        predictors = method.predict(state, federation)
        names.extend(predictors)  # what comes out of a trace has lost the order of its names
        return predictors

    jax.eval_shape(named, start, federation)
    return tuple(names)


def training_jobs(settings: RoundsStudy, setup: RoundsSetup) -> list[Job]:
    """The local training by which forms of execution are tried: the contestants' dearest models."""
    people = setup.federation.people
    counts, user = np.asarray(people.train.counts), np.asarray(people.user)
    jobs = {}
    for name in settings.contestants:
        model = dearest(settings, setup, name)
        found = next(each for each in setup.architectures if each.model == model)
        if found.path == "target":
            members = user < sum(setup.strong)
        elif found.role == "user":
            labels = np.asarray(setup.user_models, object)
            members = labels[user] == found.label
        else:
            members = np.ones(len(user), bool)
        sizes = tuple(int(count) for count in counts[members])
        batch_size, values = settings.training.batch_size, training_rates(settings.training)
        jobs[found.path] = Job(f"{found.role} {found.label}", model, batch_size, sizes, values)
    return list(jobs.values())


def dearest(settings: RoundsStudy, setup: RoundsSetup, name: str) -> Model:
    """The model of a contestant that takes the most operations to train."""
    if isinstance(settings, OnDeviceKdStudy):
        return setup.model("auxiliary" if name == "auxiliary_only" else "target")
    return max(setup.models("user"), key=lambda model: setup.costs_of(model).training_flops)


def _of_point(
    place: int, point: RoundsStudy, setup: RoundsSetup, name: str, execution: Execution
) -> Built:
    """A contestant with the numbers of one point; names the point if the method refuses them."""
    try:
        return _built(point, setup, name, execution)
    except ValueError as error:
        raise PointRefused(place, str(error)) from error


def _built(settings: RoundsStudy, setup: RoundsSetup, name: str, execution: Execution) -> Built:
    if isinstance(settings, OnDeviceKdStudy):
        return _on_device_kd(settings, setup, name, execution)
    if isinstance(settings, DfmlStudy):
        return _dfml(settings, setup, name, execution)
    if isinstance(settings, FamilyStudy):
        return family_contestant(settings, setup, name, execution)
    return _pfedafm(settings, setup, name, execution)


def _on_device_kd(
    settings: OnDeviceKdStudy, setup: RoundsSetup, name: str, execution: Execution
) -> Built:
    distillation, values = settings.distillation, rates_of(settings, name)
    if name in ("kd_only", "constant_weight"):
        distillation = replace(
            distillation,
            kd_only=name == "kd_only",
            schedule="constant",
            weight=distillation.variant_weight,
        )
    soft = {
        "temperature": jnp.float32(distillation.temperature),
        "weight": jnp.float32(distillation.weight),
        "ramp_rounds": jnp.float32(distillation.ramp_rounds or 0.75 * settings.rounds),
    }
    build, options, hparams = on_device_kd, {}, OnDeviceKdRates(values, values, **soft)
    if name == "server_ensemble":
        build, hparams = server_ensemble, ServerEnsembleRates(values, values, values, **soft)
        options = {
            "server_steps": settings.server_steps,
            "raw_bits_per_example": setup.source.raw_bits_per_example,
        }
    elif name in ("target_only", "auxiliary_only"):
        options = {"contestant": name}
    else:
        options = {"kd_only": distillation.kd_only}
    method = build(
        setup.model("auxiliary"),
        setup.model("target"),
        strong=settings.strong,
        cohort=settings.cohort,
        steps=settings.training.steps,
        batch_size=settings.training.batch_size,
        execution=execution,
        kd_weight=distillation.schedule,
        teacher_statistics=distillation.teacher_statistics,
        **options,
    )
    return method, hparams


def _dfml(settings: DfmlStudy, setup: RoundsSetup, name: str, execution: Execution) -> Built:
    models, values = setup.models("user"), rates_of(settings, name)
    shared = {
        "senders": settings.senders,
        "epochs": settings.training.epochs,
        "batch_size": settings.training.batch_size,
        "execution": execution,
    }
    if name.startswith("dfml"):
        constant = name == "dfml_constant_alpha"
        shape = "constant" if constant else settings.alpha.shape
        supervision = "cross_entropy" if name == "dfml_cross_entropy" else "weighted_softmax"
        method = dfml(
            models,
            **shared,
            schedule=Schedule(shape, settings.alpha.period, settings.alpha.growth),
            local_epochs=settings.local_epochs,
            supervision=supervision,
        )
        maximum = settings.constant_alpha if constant else settings.alpha.maximum
        numbers = maximum, settings.temperature, settings.peak_floor
        return method, DfmlRates(values, *(jnp.float32(number) for number in numbers))
    hard = jnp.float32(settings.fml_hard)
    others: dict[str, Callable[[], Built]] = {
        "local": lambda: (local(models, **shared), values),
        "decentralised_fedavg": lambda: (decentralised_fedavg(models, **shared), values),
        "decentralised_fedavg_wsm": lambda: (
            decentralised_fedavg(models, **shared, supervision="weighted_softmax"),
            values,
        ),
        "decentralised_fml": lambda: (
            decentralised_fml(models, setup.model("meme"), **shared),
            FmlRates(values, hard, hard),
        ),
        "def_kt": lambda: (
            def_kt(models, **shared),
            DefKtRates(values, jnp.float32(settings.def_kt_weight)),
        ),
    }
    return others[name]()


def _pfedafm(settings: PFedAfmStudy, setup: RoundsSetup, name: str, execution: Execution) -> Built:
    models, values = setup.models("user"), rates_of(settings, name)
    shared = {
        "epochs": settings.training.epochs,
        "batch_size": settings.training.batch_size,
        "execution": execution,
    }
    if name == "local":
        return local(models, **shared), values
    if name == "lg_fedavg":
        return lg_fedavg(models, **shared), values
    if name == "fedproto":
        weight = jnp.float32(settings.prototype_weight)
        return fedproto(models, **shared), FedProtoRates(values, weight)
    method = pfedafm(
        models,
        setup.model("shared"),
        **shared,
        mode="released_code" if name == "pfedafm_released_code" else "paper",
        joint=name == "pfedafm_joint",
    )
    mixing = rates(
        settings.mixing_learning_rate, settings.training.momentum, settings.training.weight_decay
    )
    return method, PFedAfmRates(local=values, shared=values, mixing=mixing)
