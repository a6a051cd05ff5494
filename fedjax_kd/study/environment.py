"""What a study runs on: the backend's preparation, and what the manifest says about it."""

from __future__ import annotations

import os
import platform
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

MAX_AUTO_DEVICES = 64  # each holds the examples once
_WEEK_S = 7 * 24 * 3600
_XLA_FLAGS = {
    "xla_cpu_multi_thread_eigen": "false",
    # Devices whose clients have more to do than others' arrive late where results are added up. XLA
    # ends the process after 60 s of that, and a connection between processes after half an hour.
    "xla_cpu_collective_call_warn_stuck_timeout_seconds": str(_WEEK_S),
    "xla_cpu_collective_call_terminate_timeout_seconds": str(_WEEK_S),
    "xla_cpu_collective_timeout_seconds": str(_WEEK_S),
}
_PACKAGES = ("fedjax-kd", "jax", "jaxlib", "flax", "optax", "numpy", "pandas", "scikit-learn")


def available_cpus() -> int:
    """Returns the number of processor cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0)) or 1
    return os.cpu_count() or 1


def prepare_backend(devices: int | None = None, cache_dir: Path | None = None) -> None:
    """Sets JAX up for a study; call it before anything starts a backend.

    On a CPU the study runs on several devices of one thread each, which was 1.1 to 1.5 times as
    fast as one device with as many threads. Such devices wait for each other as long as it takes.
    Accelerators are not affected. What the user has set in `XLA_FLAGS` stands, and so does the
    folder of `JAX_COMPILATION_CACHE_DIR`.

    Args:
      devices: number of CPU devices; None takes one for each core, 64 at most.
      cache_dir: where compiled programs are kept for the next run; None keeps none, and neither
        does a folder that cannot be written.
    """
    flags = os.environ.get("XLA_FLAGS", "")
    added = [f"--{name}={value}" for name, value in _XLA_FLAGS.items() if name not in flags]
    os.environ["XLA_FLAGS"] = " ".join([flags, *added]).strip()
    import jax

    if devices is not None or "xla_force_host_platform_device_count" not in flags:
        count = devices or min(MAX_AUTO_DEVICES, available_cpus())
        jax.config.update("jax_num_cpu_devices", count)
    chosen = os.environ.get("JAX_COMPILATION_CACHE_DIR")
    if cache_dir is None or not (chosen or _usable(cache_dir)):
        jax.config.update("jax_enable_compilation_cache", False)
        return
    if not chosen:
        jax.config.update("jax_compilation_cache_dir", str(cache_dir))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.3)


def _usable(folder: Path) -> bool:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return False
    return os.access(folder, os.W_OK)


def versions() -> dict[str, str]:
    """Returns the versions of Python and of the packages that results may depend on."""
    found = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return found


def machine() -> dict[str, Any]:
    """Returns what the machine is, without its name or any path; starts JAX's backend."""
    import jax

    flags = os.environ.get("XLA_FLAGS", "").split()
    return {
        "system": platform.system(),
        "architecture": platform.machine(),
        "cpus": available_cpus(),
        "backend": jax.default_backend(),
        "devices": [device.device_kind for device in jax.devices()],
        "xla_flags": [flag for flag in flags if "/" not in flag],
        "byte_order": sys.byteorder,
    }
