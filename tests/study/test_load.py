import dataclasses
import math
from typing import Any

import pytest

from fedjax_kd.study.load import (
    SettingsError,
    load_settings,
    settings_from_dict,
    settings_from_text,
    settings_hash,
    settings_to_dict,
)
from fedjax_kd.study.settings import DtKdStudy, ModelSpec, Training
from fedjax_kd.study.yaml_text import write_yaml

MINIMAL = "method: dt_kd\n"


def problems(text, overrides=()):
    with pytest.raises(SettingsError) as error:
        settings_from_text(text, overrides)
    return error.value.problems


def only_problem(text, overrides=()):
    (problem,) = problems(text, overrides)
    return problem


def test_a_minimal_file_gives_the_defaults():
    assert settings_from_text(MINIMAL) == DtKdStudy(method="dt_kd")


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("usrs: 3", ["usrs: unknown key", "the keys of the file are method, title"]),
        ("data: {user: 3}", ["data.user: unknown key; did you mean data.users?", "source, users"]),
        (
            "data: {partition: {kind: dirichlet, alph: 3}}",
            ["data.partition.alph: unknown key; did you mean data.partition.alpha?"],
        ),
        (
            "data: {partition: {kind: iid, alpha: 3}}",
            [
                "data.partition.alpha: unknown key",
                "the keys of data.partition of kind iid are kind",
            ],
        ),
        (
            "data: {temperature: 3}",
            ["data.temperature: unknown key; there is a distillation.temperature"],
        ),
        ("students: [{name: mlp, widht: 1}]", ["did you mean students.0.width?"]),
        ("1: 2", ["1: unknown key"]),
        ("data: {users: ten}", ["data.users: found 'ten' (text)", "a whole number, at least 1"]),
        ("data: {users: 2.5}", ["data.users: found 2.5", "a whole number, at least 1"]),
        ("data: {users: 0}", ["data.users: found 0", "a whole number, at least 1"]),
        ("data: {users: true}", ["data.users: found true", "a whole number"]),
        ("data: 7", ["data: found 7", "a section with the keys source, users"]),
        ("data: {source: 3}", ["data.source: found 3", "allowed: text"]),
        (
            "system: {uplink_hz: -1e6}",
            ["system.uplink_hz: found -1000000.0", "null or a finite number, above 0"],
        ),
        ("system: {downlink_hz: .nan}", ["system.downlink_hz: found NaN", "a finite number"]),
        (
            "twin: {synchronised: 1.5}",
            ["twin.synchronised: found 1.5", "a number, above 0 and at most 1"],
        ),
        (
            "data: {partition: {kind: dirichlet, alpha: -1}}",
            ["data.partition.alpha: found -1", "above 0"],
        ),
        (
            "data: {partition: {kind: diriclet}}",
            ["data.partition.kind: found 'diriclet' (text) (did you mean dirichlet?)", "iid |"],
        ),
        ("data: {partition: iid}", ["data.partition: found 'iid' (text)", "a section whose kind"]),
        (
            "data: {partition: {kind: classes_per_user, low: 0.7, high: 0.2}}",
            ["data.partition: low = 0.7 must not exceed high = 0.2"],
        ),
        ("students: []", ["students: found []", "at least 1 of them"]),
        ("students: [{width: 0.5}]", ["students.0.name: missing; allowed: text"]),
        ("students: [{name: mlp, norm: layer}]", ["students.0.norm", "null or group | batch"]),
        ("students: [{name: mlp, hidden: [0]}]", ["students.0.hidden.0: found 0", "at least 1"]),
        ("seeds: [1, -1]", ["seeds.1: found -1", "at least 0 and below 2147483648"]),
        ("objective: {delay: mean}", ["objective.delay: found 'mean' (text)", "sum | makespan"]),
        ("system: {teacher_inference: yes}", ["found 'yes' (text)", "allowed: true or false"]),
        ("title: &a [*a]", ["title: found a list inside itself", "allowed: text"]),
    ],
)
def test_messages_name_the_field_the_value_and_what_is_allowed(text, parts):
    problem = only_problem(MINIMAL + text)
    for part in parts:
        assert part in problem


def test_all_problems_come_at_once_without_those_that_follow_from_others():
    found = problems(MINIMAL + "data: {users: 0, source: 3}\nstudents: [{}]\nteacher: {rouns: 1}")
    assert [problem.partition(":")[0] for problem in found] == [
        "data.source",
        "data.users",
        "students.0.name",
        "teacher.rouns",
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "the file is empty; it must say at least `method: dt_kd`"),
        ("# only a comment", "the file is empty"),
        ("- 1", "the file must hold `key: value` lines"),
        ("title: x", "method: missing; allowed: dt_kd"),
        ("method: dtkd", "method: found 'dtkd' (text) (did you mean dt_kd?); allowed: dt_kd"),
        ("method: [dt_kd]", 'method: found ["dt_kd"] (did you mean dt_kd?); allowed: dt_kd'),
        ("method: dt_kd\nmethod: dt_kd", "line 2: the key `method` is already on line 1"),
        ("method: dt_kd\ndata: {users: 1", "line 2, column 16: not valid YAML"),
    ],
)
def test_files_that_hold_no_study(text, message):
    assert message in only_problem(text)


def test_missing_and_unreadable_files(tmp_path):
    with pytest.raises(SettingsError, match=r"none\.yaml: there is no such file"):
        load_settings(tmp_path / "none.yaml")
    with pytest.raises(SettingsError, match="cannot be read: Is a directory"):
        load_settings(tmp_path)
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(SettingsError, match="it is not UTF-8 text"):
        load_settings(tmp_path / "binary.yaml")


def test_a_file_is_named_in_the_message(tmp_path):
    path = tmp_path / "study.yaml"
    path.write_text(MINIMAL + "usrs: 3")
    with pytest.raises(SettingsError, match=r"study\.yaml:\n  usrs: unknown key"):
        load_settings(path)


def test_numbers_without_a_point_are_numbers():
    text = MINIMAL + "distillation: {training: {learning_rate: 1e-3}}"
    settings: Any = settings_from_text(text)
    assert settings.distillation.training.learning_rate == 1e-3


def test_what_a_section_leaves_out_keeps_the_value_in_effect():
    settings: Any = settings_from_text(MINIMAL + "distillation: {training: {batch_size: 8}}")
    assert settings.distillation.training == Training(epochs=20, batch_size=8)
    settings = settings_from_text(MINIMAL + "data: {partition: {alpha: 0.1}}")
    assert settings.data.partition == dataclasses.replace(
        DtKdStudy(method="dt_kd").data.partition, alpha=0.1
    )
    assert settings_from_text(MINIMAL + "data:") == DtKdStudy(method="dt_kd")


def test_another_kind_takes_no_option_of_the_default_kind():
    settings = settings_from_text(MINIMAL + "data: {partition: {kind: iid}}")
    assert settings_to_dict(settings)["data"]["partition"] == {"kind": "iid"}


@pytest.mark.parametrize(
    ("override", "read"),
    [
        ("data.users=10", lambda s: s.data.users == 10),
        ("data.partition.alpha=1e-1", lambda s: s.data.partition.alpha == 0.1),
        ("data.partition={kind: iid}", lambda s: s.data.partition.kind == "iid"),
        ("students.1.width=0.5", lambda s: s.students[1] == ModelSpec("lenet", width=0.5)),
        ("students=[{name: mlp}]", lambda s: s.students == (ModelSpec("mlp"),)),
        ("seeds.2=9", lambda s: s.seeds == (0, 1, 9)),
        ("title=a=b", lambda s: s.title == "a=b"),
        ("distillation.training.batch_size=8", lambda s: s.distillation.training.epochs == 20),
        ("objective.delay_weight=1", lambda s: s.objective.delay_weight == 1.0),
    ],
)
def test_overrides_change_one_setting(override, read):
    settings = settings_from_text(MINIMAL, [override])
    assert read(settings)
    assert settings != DtKdStudy(method="dt_kd")


def test_later_overrides_win_and_all_come_after_the_file():
    assert settings_from_text(MINIMAL + "seeds: [5]", ["seeds=[6]", "seeds=[7]"]).seeds == (7,)
    assert settings_from_text("title: x", ["method=dt_kd"]).title == "x"


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("data.users", "--set data.users: expected key=value"),
        ("data.=1", "expected key=value"),
        ("=1", "expected key=value"),
        ("data.users=[1", "--set data.users=[1: line 1"),
        ("students.3.name=mlp", "students is a list, found item '3'; allowed: 0 to 2"),
        ("students.last.name=mlp", "students is a list, found item 'last'"),
        ("data.users.count=1", "data.users: found a section; allowed: a whole number"),
        ("a.b=1", "a: unknown key"),
        (
            "method=sgd",
            "method: found 'sgd' (text); allowed: dt_kd | on_device_kd | dfml",
        ),
    ],
)
def test_overrides_that_fit_nowhere(override, message):
    assert message in only_problem(MINIMAL, [override])


def test_an_override_does_not_reach_into_a_scalar_of_the_file():
    problem = only_problem(MINIMAL + "data: {users: 5}", ["data.users.count=1"])
    assert "data.users is 5 and has no key 'count'" in problem


CHANGED = (
    MINIMAL
    + """
title: "yes: 1e-3"
seeds: [7]
data: {users: 3, partition: {kind: natural}}
students: [{name: resnet20, width: 0.25, norm: batch}, {name: mlp, hidden: [64, 32]}]
objective: {frontier_weights: [1e-7, 1e20]}
"""
)


@pytest.mark.parametrize("text", [MINIMAL, CHANGED])
def test_settings_survive_being_written_and_read(text):
    settings = settings_from_text(text)
    as_dict = settings_to_dict(settings)
    assert settings_from_dict(as_dict) == settings
    assert settings_from_text(write_yaml(as_dict)) == settings


def test_the_hash_is_the_study_and_not_its_spelling():
    plain = settings_from_text(MINIMAL)
    spelt = settings_from_text("objective: {delay_weight: 5e-1}\nmethod: dt_kd\ndata: {users: 5}")
    assert settings_hash(plain) == settings_hash(spelt)
    assert len(settings_hash(plain)) == 16
    assert int(settings_hash(plain), 16) >= 0


def test_every_setting_moves_the_hash():
    base = settings_from_text(MINIMAL)
    changed = [
        "data.users=6",
        "students.0.hidden=[128]",
        "students.0.name=cnn2",
        "seeds=[0, 2, 1]",
        f"objective.delay_weight={math.nextafter(0.5, 1)!r}",
        "twin.unsynchronised_labels=free",
    ]
    hashes = {settings_hash(settings_from_text(MINIMAL, [change])) for change in changed}
    assert len(hashes | {settings_hash(base)}) == len(changed) + 1
