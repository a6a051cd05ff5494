import json

import pytest

from fedjax_kd.models import build_model
from fedjax_kd.study.plan import Job, make_plan
from fedjax_kd.training import default_execution, rates, trial

BIG = build_model("mlp", input_shape=(4,), n_classes=2, hidden=(6,))
SMALL = build_model("mlp", input_shape=(4,), n_classes=2, hidden=(3,))
JOBS = [
    Job("teacher", BIG, 8, (9, 9), rates(0.1)),
    Job("mlp_3", SMALL, 4, (9,) * 6, rates(0.1)),
    Job("fedavg", SMALL, 4, (9,) * 6, rates(0.2)),
]


@pytest.fixture
def measured(monkeypatch):
    """Trials that find the small model faster in chunks, and are counted."""
    asked = []

    def speeds(model, batch_size, sizes, values, executions):
        asked.append(model)
        return {form: 2.0 if model is SMALL and ":" in form else 1.0 for form in executions}

    monkeypatch.setattr(trial, "_speeds", speeds)
    return asked


def test_every_architecture_gets_its_own_form_after_one_trial(measured):
    plan = make_plan(JOBS, default_execution(1))
    assert plan.of(BIG, 8).form == "sequential"
    assert plan.of(SMALL, 4).label == "chunked:4"
    assert measured == [BIG, SMALL]
    described = plan.describe()
    json.dumps(described)
    assert described["form"] == "chunked:4, sequential"
    assert [row["job"] for row in described["trials"]] == ["teacher", "mlp_3"]


def test_what_was_not_planned_runs_in_the_usual_form(measured):
    plan = make_plan(JOBS[:1], default_execution(1))
    assert plan.of(SMALL, 4) == default_execution(1)


def test_a_form_that_was_asked_for_is_taken_without_a_trial(measured):
    plan = make_plan(JOBS, default_execution(1), asked="chunked:3")
    assert {plan.of(BIG, 8).label, plan.of(SMALL, 4).label} == {"chunked:3"}
    assert measured == []
    assert plan.describe()["form"] == "chunked:3"


def test_a_run_that_goes_on_takes_what_the_first_one_chose(measured):
    recorded = make_plan(JOBS, default_execution(1)).describe()
    recorded["trials"][0]["form"] = "vmap"
    del measured[:]
    plan = make_plan(JOBS, default_execution(1), recorded=json.loads(json.dumps(recorded)))
    assert plan.of(BIG, 8).form == "vmap"
    assert plan.of(SMALL, 4).label == "chunked:4"
    assert measured == []


def test_an_unknown_form_is_refused(measured):
    with pytest.raises(ValueError, match="execution: found 'loop'"):
        make_plan(JOBS, default_execution(1), asked="loop")


def test_a_run_that_goes_on_keeps_the_form_it_was_pinned_to(measured):
    recorded = make_plan(JOBS, default_execution(1), asked="chunked:3").describe()
    plan = make_plan(JOBS, default_execution(1), recorded=recorded)
    assert plan.of(BIG, 8).label == "chunked:3"
    other = make_plan(JOBS, default_execution(1), asked="vmap", recorded=recorded)
    assert other.of(BIG, 8).label == "vmap"
    assert measured == []


@pytest.mark.parametrize("change", [{"devices": 7}, {"platform": "gpu"}, {"kernels": "other"}])
def test_what_was_chosen_on_another_machine_is_not_taken_over(measured, change):
    recorded = make_plan(JOBS, default_execution(1), asked="vmap").describe() | change
    plan = make_plan(JOBS, default_execution(1), recorded=recorded)
    assert plan.of(BIG, 8).form == "sequential"
    assert measured == [BIG, SMALL]


def test_a_damaged_record_is_measured_over(measured):
    recorded = make_plan(JOBS, default_execution(1)).describe()
    recorded["trials"] = [{"job": "teacher"}, {}]
    del measured[:]
    assert make_plan(JOBS, default_execution(1), recorded=recorded).of(BIG, 8).form == "sequential"
    assert measured == [BIG, SMALL]
