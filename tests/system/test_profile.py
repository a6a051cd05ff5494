import dataclasses

import pytest
import yaml
from pydantic import TypeAdapter

from fedjax_kd.system import Profile, load_profile, parse_profile, profile_names


def _content(**changes):
    profile = dataclasses.asdict(load_profile("cell_500m"))
    content = {k: list(v) if isinstance(v, tuple) else v for k, v in profile.items()}
    return content | changes


def test_the_default_profile_is_the_specification_s_table():
    profile = load_profile("cell_500m")
    assert profile.radius_m == 500.0
    assert profile.uplink_hz == profile.downlink_hz == 20e6
    assert profile.noise_dbm_per_hz == -174.0
    assert profile.device_transmit_w == (0.6, 1.0)
    assert profile.server_transmit_w == 10.0
    assert profile.device_clock_hz == (0.5e9, 1e9)
    assert profile.server_clock_hz == (5e9, 10e9)
    assert profile.flops_per_cycle == 4.0
    assert profile.path_loss.kind == "power_law"


def test_there_are_profiles_to_choose_from():
    assert {"cell_500m", "cell_weak_strong", "fast_edge", "weak_edge"} <= set(profile_names())


def test_a_profile_can_be_a_file(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(_content(radius_m=300.0)))
    assert load_profile(path).radius_m == 300.0
    with pytest.raises(ValueError, match="there is no such file"):
        load_profile(tmp_path / "other.yaml")


def test_an_unknown_name_is_answered_with_the_nearest():
    with pytest.raises(ValueError, match=r"'cell_50m' is unknown.*Did you mean cell_500m\?"):
        load_profile("cell_50m")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"uplink_hz": -5.0}, r"uplink_hz = -5.0: Input should be greater than 0"),
        ({"uplink_hz": "20 MHz"}, r"uplink_hz = '20 MHz': Input should be a valid number"),
        ({"device_clock_hz": [2e9, 1e9]}, r"device_clock_hz = .*lower bound must not exceed"),
        ({"weak_device_clock_hz": [2e9, 1e9]}, r"weak_device_clock_hz = .*lower bound must not"),
        ({"weak_device_capacitance": 0.0}, r"weak_device_capacitance = 0.0: .* greater than 0"),
        ({"nearest_m": 600.0}, r"nearest_m = 600.0 must be below radius_m = 500.0"),
        ({"noise_dbm_per_hz": 4.0}, r"noise_dbm_per_hz = 4.0: Input should be less than 0"),
        ({"bandwidth": 1.0}, r"bandwidth = 1.0: Unexpected keyword argument"),
        ({"path_loss": {"kind": "free"}}, r"path_loss = .*'power_law', 'macro_cell'"),
        ({"path_loss": {"kind": "macro_cell", "shadowing_db": -1.0}}, r"path_loss.shadowing_db"),
    ],
)
def test_a_bad_field_is_named_with_its_value_and_what_is_allowed(changes, message):
    with pytest.raises(ValueError, match=message):
        parse_profile(_content(**changes), "mine")


def test_a_missing_field_is_named():
    content = _content()
    del content["server_clock_hz"]
    with pytest.raises(ValueError, match="device profile mine: server_clock_hz: "):
        parse_profile(content, "mine")


def test_a_file_that_is_not_a_mapping_or_not_yaml_is_refused(tmp_path):
    with pytest.raises(ValueError, match="must be a mapping"):
        parse_profile([1, 2], "mine")
    path = tmp_path / "broken.yaml"
    path.write_text("radius_m: [1, 2")
    with pytest.raises(ValueError, match="not valid YAML"):
        load_profile(path)


def test_a_profile_without_weak_devices_is_written_as_if_they_did_not_exist():
    for name in profile_names():
        written = TypeAdapter(Profile).dump_python(load_profile(name), mode="json")
        assert ("weak_device_clock_hz" in written) == (name == "cell_weak_strong")
        assert parse_profile(written, name) == load_profile(name)
