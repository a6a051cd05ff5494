import pytest

from fedjax_kd.models.layers import group_count, scaled


@pytest.mark.parametrize(
    ("channels", "groups"), [(1, 1), (4, 4), (7, 7), (12, 6), (16, 8), (64, 8)]
)
def test_groups_divide_the_channels(channels, groups):
    assert group_count(channels) == groups


@pytest.mark.parametrize(
    ("size", "width", "expected"), [(16, 0.25, 4), (6, 0.01, 1), (16, 1.0, 16)]
)
def test_sizes_scale_and_never_vanish(size, width, expected):
    assert scaled(size, width) == expected
