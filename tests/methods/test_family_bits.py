"""What crosses in a round of each method of the family, against closed forms by hand.

C classes, d features, P public examples of a round, |theta| parameters of a client's architecture,
c_k classes that client k holds: numbers of 32 bits each.
"""

import catalog_cases as cases
import jax
import numpy as np
import pytest

from fedjax_kd.models import profile

C, D, P = 10, 8, 6
WORD = 32
MLP_8 = 64 * 8 + 8 + 8 * C + C
MLP_12_8 = 64 * 12 + 12 + 12 * 8 + 8 + 8 * C + C
MEME = 64 * 6 + 6 + 6 * C + C
OWN = np.array([MLP_8, MLP_12_8, MLP_8] * 2)
FAMILY = (
    "local",
    "fedavg",
    "fedprox",
    "lg_fedavg",
    "fd",
    "fedproto",
    "fml",
    "fedmd",
    "ds_fl",
    "feddf",
)


def classes_held() -> np.ndarray:
    """bool [K, C]."""
    people, labels = cases.federation().people, np.asarray(cases.federation().table.labels)
    held = np.zeros((cases.N_CLIENTS, C), bool)
    for k, count in enumerate(np.asarray(people.train.counts)):
        held[k, labels[np.asarray(people.train.indices)[k, :count]]] = True
    return held


def heard_of(active: np.ndarray):
    """bool [S, C]: classes that the servers hear of from those who are active."""
    return (classes_held() & active[:, None]).reshape(2, 3, C).any(axis=1)


def numbers_up(name: str) -> np.ndarray:
    held = classes_held().sum(axis=1)
    return np.broadcast_to(
        {
            "local": 0,
            "fedavg": MLP_8,
            "fedprox": OWN,
            "feddf": OWN,
            "lg_fedavg": C * D + C,
            "fd": held * C,
            "fedproto": held * D,
            "fml": MEME,
            "fedmd": P * C,
            "ds_fl": P * C,
        }[name],
        cases.N_CLIENTS,
    )


def numbers_down(name: str, known: np.ndarray) -> np.ndarray:
    tables = {"fd": known * C, "fedproto": known * D}
    return np.broadcast_to(tables.get(name, numbers_up(name)), cases.N_CLIENTS)


def test_the_parameters_are_counted_right():
    first, second = cases.models()
    found = [profile(model).parameters for model in (first, second, cases.small_model())]
    assert found == [MLP_8, MLP_12_8, MEME]
    held = classes_held().sum(axis=1)
    assert (held > 0).all()
    assert (held < C).any()


@pytest.mark.parametrize("name", FAMILY)
def test_bits_are_the_closed_forms(name):
    reports = jax.device_get(cases.run_loop(name, cases.reference_execution())[1])
    known = np.zeros((2, C), bool)
    for index, active in enumerate(cases.ACTIVE):
        np.testing.assert_array_equal(reports.uplink_bits[index], active * numbers_up(name) * WORD)
        down = numbers_down(name, np.repeat(known.sum(axis=1), 3))
        np.testing.assert_array_equal(reports.downlink_bits[index], active * down * WORD)
        heard, here = heard_of(active), active.reshape(2, 3).any(axis=1)[:, None]
        # FedProto's server keeps the prototypes of classes that nobody held in the round.
        known = known | heard if name == "fedproto" else np.where(here, heard, known)
