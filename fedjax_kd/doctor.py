"""What this machine will run on, and why: the answers that `fedjax-kd doctor` prints."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple


class Finding(NamedTuple):
    """One thing looked at."""

    subject: str
    answer: str


def examine() -> list[Finding]:
    """Looks at Python, JAX, the processor, the native kernels, the caches and the data folder.

    Starts JAX's backend and, if they have not been built yet, builds the native kernels.

    Returns:
        The findings, in the order in which they are to be read.
    """
    return [*_software(), *_processor(), *_native_kernels(), *_kernels(), *_folders()]


def report_lines() -> list[str]:
    """Returns the findings as lines of text, the answers below each other."""
    findings = examine()
    width = max(len(finding.subject) for finding in findings) + 2
    return [f"{finding.subject:<{width}}{finding.answer}" for finding in findings]


def _software() -> list[Finding]:
    from fedjax_kd.study.environment import versions

    wanted = ("python", "fedjax-kd", "jax", "jaxlib")
    return [Finding(name, version) for name, version in versions().items() if name in wanted]


def _processor() -> list[Finding]:
    import jax

    from fedjax_kd.study.environment import available_cpus

    devices = jax.local_devices()
    kinds = ", ".join(sorted({device.device_kind for device in devices}))
    flags = os.environ.get("XLA_FLAGS", "")
    return [
        Finding("platform", jax.default_backend()),
        Finding("devices", f"{len(devices)} ({kinds})"),
        Finding("processor cores", str(available_cpus())),
        Finding("XLA_FLAGS", flags or "not set"),
    ]


def _native_kernels() -> list[Finding]:
    from fedjax_kd.kernels.native.choice import VARIABLE, current_form

    asked = Finding("kernels asked for", f"{current_form()} ({VARIABLE})")
    if current_form() == "canonical":
        return [asked, Finding("native library", "not looked for")]
    from fedjax_kd.kernels import native_status

    status = native_status()
    if not status.available:
        return [asked, Finding("native library", f"none: {status.reason}")]
    return [
        asked,
        Finding("compiler", status.compiler or "unknown"),
        Finding("instruction set", status.instruction_set or "unknown"),
        Finding("native library", f"{status.library} ({status.reason})"),
    ]


def _kernels() -> list[Finding]:
    """Which form each kernel takes in a float32 model; other types are always canonical."""
    from fedjax_kd.kernels import native_status
    from fedjax_kd.kernels.dense import NATIVE_BATCHES
    from fedjax_kd.kernels.native.choice import current_form
    from fedjax_kd.kernels.pool import NATIVE_WINDOW

    form = current_form()
    no_native_form = ("batch normalisation", "max pooling alone", "group normalisation alone")
    where_it_pays = {
        "convolution": "",
        "convolution + group normalisation": "",
        "dense layer": f", for batches of {NATIVE_BATCHES[0]} to {NATIVE_BATCHES[-1]}",
        "pooling + bias + ReLU": f", for windows of at least {NATIVE_WINDOW} elements",
    }
    if form == "canonical":
        answers = dict.fromkeys(where_it_pays, "canonical: asked for")
    elif native_status().available:
        answers = {
            name: f"native{condition if form == 'auto' else ''}"
            for name, condition in where_it_pays.items()
        }
    else:
        verdict = "canonical" if form == "auto" else "refused, as native is asked for"
        answers = dict.fromkeys(where_it_pays, f"{verdict}: no native library")
    answers |= dict.fromkeys(no_native_form, "canonical: there is no other form")
    return [Finding(name, answer) for name, answer in answers.items()]


def _folders() -> list[Finding]:
    import jax

    from fedjax_kd.data import data_sources_overview
    from fedjax_kd.data.tfds_import import default_data_dir
    from fedjax_kd.kernels.native.private_folder import library_folder

    programs = jax.config.values["jax_compilation_cache_dir"]
    used = programs if programs and jax.config.values["jax_enable_compilation_cache"] else None
    ready = [source.name for source in data_sources_overview() if source.available]
    return [
        Finding("compiled programs", _folder(Path(used)) if used else "not kept"),
        Finding("native libraries", _folder(library_folder(os.environ))),
        Finding("data folder", _folder(Path(default_data_dir()))),
        Finding("data ready", ", ".join(ready)),
    ]


def _folder(path: Path) -> str:
    """A folder and the size of what is in it."""
    if not path.is_dir():
        return f"{path} (not there yet)"
    sizes_bytes = [file.stat().st_size for file in path.rglob("*") if file.is_file()]
    return f"{path} ({len(sizes_bytes)} files, {sum(sizes_bytes) / 1e6:.1f} MB)"
