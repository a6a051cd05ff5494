"""What the native library offers: the entry points of each C++ file, by the name JAX knows them.

A file that is not there is skipped, and so are its entry points.
"""

from __future__ import annotations

from pathlib import Path

SOURCE_FOLDER = Path(__file__).parent

# Each name is the C symbol of the handler and the name of its FFI target.
TARGETS: dict[str, tuple[str, ...]] = {
    "conv.cc": (
        "fedjax_kd_conv_forward",
        "fedjax_kd_conv_input_gradient",
        "fedjax_kd_conv_kernel_gradient",
    ),
    "conv_tiles.cc": (),
    "conv_group_norm.cc": (
        "fedjax_kd_conv_group_norm_forward",
        "fedjax_kd_conv_group_norm_backward",
    ),
    "dense.cc": (
        "fedjax_kd_dense_forward",
        "fedjax_kd_dense_input_gradient",
        "fedjax_kd_dense_kernel_gradient",
        "fedjax_kd_dense_descend",
        "fedjax_kd_dense_descend_with_input_gradient",
    ),
    "pool.cc": ("fedjax_kd_pool_forward", "fedjax_kd_pool_backward"),
}


def present_sources(folder: Path = SOURCE_FOLDER) -> tuple[Path, ...]:
    """The C++ files of the table that are there, in its order."""
    return tuple(folder / name for name in TARGETS if (folder / name).is_file())


def present_targets(folder: Path = SOURCE_FOLDER) -> tuple[str, ...]:
    """The entry points of the C++ files that are there."""
    return tuple(target for source in present_sources(folder) for target in TARGETS[source.name])
