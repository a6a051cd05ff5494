import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedjax_kd.study.yaml_text import YamlError, read_yaml, write_yaml


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-3", 1e-3),
        ("1E5", 1e5),
        ("-.5", -0.5),
        ("2.", 2.0),
        ("20_000", 20_000),
        ("010", 10),
        ("0x1F", 31),
        ("0o17", 15),
        ("1:30", "1:30"),
        ("no", "no"),
        ("on", "on"),
        ("true", True),
        ("False", False),
        ("~", None),
        ("", None),
        ("2024-01-02", "2024-01-02"),
        (".inf", math.inf),
        ("[1, a, 1.5]", [1, "a", 1.5]),
    ],
)
def test_scalars_are_those_of_yaml_1_2(text, value):
    found = read_yaml(text)
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\nb: 2\na: 3", "line 3: the key `a` is already on line 1"),
        ("top:\n  x: 1\n  x: 1", "line 3: the key `x` is already on line 2"),
        ("a: [1, 2", "line 1, column 9: not valid YAML"),
        ("a: 1\n\tb: 2", "line 2, column 1: not valid YAML"),
        ("a: !!python/object:os.system x", "line 1, column 4: not valid YAML"),
        ("a: 1\n---\nb: 2", "line 2, column 1: not valid YAML"),
        ("{[1]: 2}", "not valid YAML"),
        ("9" * 101, "a number of 101 digits"),
    ],
)
def test_errors_name_the_line(text, message):
    with pytest.raises(YamlError) as error:
        read_yaml(text)
    assert message in str(error.value)


def test_merge_keys_may_be_overridden():
    text = "base: &base {a: 1, b: 2}\nmore:\n  <<: *base\n  b: 3"
    assert read_yaml(text)["more"] == {"a": 1, "b": 3}


_words = st.sampled_from(["1e-3", "yes", "no", "010", "0o17", "1:30", "~", "", "on", "2020-01-01"])
_scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(2**62), 2**62)
    | st.floats(allow_nan=False)
    | st.text(st.characters(categories=["L", "N", "P", "Zs"]), max_size=12)
    | _words
)
_trees = st.recursive(
    _scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_words, inner, max_size=3),
    max_leaves=8,
)


@given(_trees)
def test_what_is_written_is_read_back(value):
    assert read_yaml(write_yaml(value)) == value
