import json

import jax
import pytest

from fedjax_kd.models import build_model
from fedjax_kd.training import default_execution, rates, trial
from fedjax_kd.training.execution import for_points, parse_form
from fedjax_kd.training.trial import candidates, choose_execution

MODEL = build_model("mlp", input_shape=(4,), n_classes=2, hidden=(3,))


def choose(**changes):
    arguments = {
        "batch_size": 4,
        "counts": [8, 8, 8, 8],
        "values": rates(0.1),
        "execution": default_execution(1),
    } | changes
    return choose_execution(MODEL, **arguments)


def test_a_trial_times_every_form_and_chooses_one_of_them():
    outcome = choose(forms=("sequential", "vmap", "chunked:2"))
    assert set(outcome.examples_per_s) == {"sequential", "vmap", "chunked:2"}
    assert min(outcome.examples_per_s.values()) > 0
    assert outcome.measured
    assert outcome.execution.label in outcome.examples_per_s
    row = outcome.row(MODEL)
    assert row["form"] == outcome.execution.label
    json.dumps(row)


@pytest.mark.parametrize(
    ("speeds", "expected"),
    [
        ({"sequential": 100.0, "chunked:4": 105.0}, "sequential"),  # within the noise
        ({"sequential": 100.0, "chunked:4": 150.0}, "chunked:4"),
        ({"sequential": 100.0, "chunked:4": 50.0}, "sequential"),
    ],
)
def test_the_usual_form_stands_unless_another_is_clearly_faster(monkeypatch, speeds, expected):
    monkeypatch.setattr(trial, "_speeds", lambda *_: speeds)
    assert choose().execution.label == expected


def test_an_outcome_is_remembered_and_not_measured_again(monkeypatch, tmp_path):
    memory = tmp_path / "kept" / "trials.json"
    first = choose(memory=memory)
    monkeypatch.setattr(trial, "_speeds", lambda *_: pytest.fail("measured again"))
    again = choose(memory=memory)
    assert again.execution == first.execution
    assert again.examples_per_s == first.examples_per_s
    assert not again.measured


@pytest.mark.parametrize("damage", ["", "{", "[1, 2]", '{"a": 1}'])
def test_a_damaged_memory_is_measured_over(tmp_path, damage):
    memory = tmp_path / "trials.json"
    memory.write_text(damage)
    assert choose(memory=memory, forms=("sequential", "vmap")).measured
    assert isinstance(json.loads(memory.read_text()), dict)


def test_one_client_per_device_needs_no_trial():
    outcome = choose(counts=[8])
    assert outcome.examples_per_s == {}
    assert outcome.execution.form == "sequential"


@pytest.mark.parametrize("clients", [1, 8, 100, 10_000])
@pytest.mark.parametrize("platform", ["cpu", "gpu", "tpu"])
def test_candidates_can_be_read_and_start_with_the_usual_form(platform, clients):
    forms = candidates(platform, clients, 1)
    for form in forms:
        parse_form(form)
    assert platform != "cpu" or forms[0] == "sequential"
    assert clients <= 128 or "vmap" not in forms


@pytest.mark.parametrize("text", ["loop", "", "chunked:0", "chunked:x", "vmap:3", "sequential:"])
def test_unknown_forms_are_refused(text):
    with pytest.raises(ValueError, match="execution: found"):
        parse_form(text)


def test_rows_of_the_mesh_divide_devices_and_points():
    execution = default_execution(2)._replace(devices=tuple(jax.local_devices()[:1]) * 12)
    assert [for_points(execution, n).study_rows for n in (1, 2, 3, 5, 8, 24)] == [1, 2, 3, 1, 4, 12]


def test_the_trials_clients_are_as_many_and_as_uneven_as_the_studys():
    two = default_execution(2)
    forms = {
        "vmap": two._replace(form="vmap"),
        "chunked:32": two._replace(form="chunked", width=32),
    }
    assert len(trial._sizes([10] * 500, 4, {"chunked:32": forms["chunked:32"]})) == 64
    assert len(trial._sizes([10] * 100, 4, forms)) == 100
    assert len(trial._sizes([10] * 5, 4, forms)) == 5
    even = trial._sizes([10] * 40, 4, forms)
    assert set(even) == {trial.STEPS * 4}
    uneven = trial._sizes([1] * 30 + [100] * 10, 4, forms)
    assert min(uneven) == 4
    assert max(uneven) == 4 * min(round(trial.STEPS * 100 / 25.75), trial.MOST_STEPS)
    halves = sum(uneven[:20]), sum(uneven[20:])
    assert abs(halves[0] - halves[1]) <= max(uneven)


def test_another_question_is_another_trial(monkeypatch, tmp_path):
    asked = []

    def speeds(*arguments):
        asked.append(arguments)
        return dict.fromkeys(arguments[-1], 1.0)

    monkeypatch.setattr(trial, "_speeds", speeds)
    memory = tmp_path / "trials.json"
    for changes in ({}, {"counts": [8, 8, 8, 80]}, {"values": rates(0.1, 0.9)}, {"batch_size": 2}):
        choose(memory=memory, **changes)
    choose(memory=memory, values=rates(0.7))  # another number, the same program
    assert len(asked) == 4
