"""How the native library is found, built, checked and chosen, and what happens where it is not."""

import logging
import os
import stat
import subprocess
import sys

import jax
import jax.numpy as jnp
import pytest

from fedjax_kd import kernels
from fedjax_kd.kernels.native import NativeUnavailable, current_form, use_native
from fedjax_kd.kernels.native.build import FLAGS, build_library
from fedjax_kd.kernels.native.private_folder import check_private, library_folder, make_private
from fedjax_kd.kernels.native.targets import SOURCE_FOLDER, TARGETS
from fedjax_kd.kernels.native.toolchain import INSTRUCTION_SETS, find_toolchain

# Without JAX's headers, so that building takes little time.
SOURCE = """
#include "vector.h"
extern "C" int fedjax_kd_lanes() { return fedjax_kd::kLanes; }
"""


@pytest.fixture
def sources(tmp_path, native):
    folder = tmp_path / "sources"
    folder.mkdir()
    (folder / "vector.h").write_bytes((SOURCE_FOLDER / "vector.h").read_bytes())
    (folder / "pool.cc").write_text(SOURCE)
    return folder


def run_python(code, **environment):
    """Runs Python code in a process of its own; returns what it printed, log lines included."""
    done = subprocess.run(
        [sys.executable, "-c", "import logging; logging.basicConfig(level='INFO')\n" + code],
        env={**os.environ, "JAX_PLATFORMS": "cpu", **environment},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout, done.stderr


def test_a_library_is_built_once_and_again_when_a_source_changes(tmp_path, sources):
    toolchain = find_toolchain(os.environ)
    folder = tmp_path / "cache" / "native"
    first = build_library(toolchain, folder, sources)
    assert first.fresh
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    again = build_library(toolchain, folder, sources)
    assert again == first._replace(fresh=False)
    (sources / "vector.h").write_text((sources / "vector.h").read_text() + "// changed\n")
    changed = build_library(toolchain, folder, sources)
    assert changed.fresh
    assert changed.path != first.path
    assert {path.name for path in folder.iterdir()} == {first.path.name, changed.path.name}


def test_processes_that_build_at_once_end_with_the_same_library(native, tmp_path, sources):
    code = f"""
from pathlib import Path
import ctypes
import os
from fedjax_kd.kernels.native.build import build_library
from fedjax_kd.kernels.native.toolchain import find_toolchain
built = build_library(find_toolchain(os.environ), Path({str(tmp_path / "new")!r}),
                      Path({str(sources)!r}))
print(built.path, ctypes.CDLL(str(built.path)).fedjax_kd_lanes())
"""
    command = [sys.executable, "-c", code]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    said = [process.communicate(timeout=300)[0].strip() for process in running]
    assert [process.returncode for process in running] == [0, 0, 0]
    lanes = {"avx512": 16, "avx2": 8, "plain": 4}[native.instruction_set]
    (path,) = (tmp_path / "new").iterdir()
    assert said == [f"{path} {lanes}"] * 3


def test_a_compiler_that_fails_leaves_nothing_and_says_why(tmp_path, sources):
    (sources / "pool.cc").write_text("this is no C++")
    with pytest.raises(NativeUnavailable, match=r"the compiler failed: .*pool.cc.*error"):
        build_library(find_toolchain(os.environ), tmp_path / "new", sources)
    assert list((tmp_path / "new").iterdir()) == []


def test_a_package_without_sources_is_told(tmp_path, native):
    with pytest.raises(NativeUnavailable, match="without its C"):
        build_library(find_toolchain(os.environ), tmp_path / "new", tmp_path)


@pytest.mark.parametrize("mode", [0o777, 0o770, 0o702])
def test_a_folder_that_others_can_write_is_refused(tmp_path, mode):
    folder = tmp_path / "native"
    folder.mkdir()
    folder.chmod(mode)
    with pytest.raises(NativeUnavailable, match=f"others can write to .* \\(mode {mode:04o}\\)"):
        make_private(folder)


def test_a_library_that_others_can_write_is_refused(tmp_path, sources):
    toolchain = find_toolchain(os.environ)
    built = build_library(toolchain, tmp_path / "native", sources)
    built.path.chmod(0o766)
    with pytest.raises(NativeUnavailable, match="others can write to"):
        build_library(toolchain, tmp_path / "native", sources)


def test_a_link_and_a_folder_of_somebody_else_are_refused(tmp_path, monkeypatch):
    real = tmp_path / "real"
    real.mkdir(mode=0o700)
    (tmp_path / "native").symlink_to(real)
    with pytest.raises(NativeUnavailable, match="is a link"):
        make_private(tmp_path / "native")
    monkeypatch.setattr(os, "getuid", lambda: real.stat().st_uid + 1)
    with pytest.raises(NativeUnavailable, match="belongs to user"):
        check_private(real)


def test_a_folder_that_cannot_be_made_is_told(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(NativeUnavailable, match="cannot be made"):
        make_private(tmp_path / "file" / "native")


def test_the_folder_follows_the_environment(tmp_path):
    assert library_folder({"FEDJAX_KD_CACHE_DIR": str(tmp_path)}) == tmp_path / "native"
    assert library_folder({}).parts[-2:] == ("fedjax_kd", "native")


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ({"PATH": ""}, r"there is no C\+\+ compiler \(g\+\+, c\+\+\) on PATH"),
        ({"PATH": os.environ["PATH"], "CXX": "/nonexistent"}, "no compiler CXX='/nonexistent'"),
        ({"PATH": os.environ["PATH"], "CXX": sys.executable}, "does not work"),
        (
            {**os.environ, "FEDJAX_KD_INSTRUCTION_SET": "mmx"},
            "FEDJAX_KD_INSTRUCTION_SET='mmx': this processor has .*plain",
        ),
    ],
)
def test_a_toolchain_that_cannot_be_had_is_told(native, environment, message):
    with pytest.raises(NativeUnavailable, match=message):
        find_toolchain(environment)


def test_without_a_compiler_the_canonical_form_is_used_with_one_line_of_log(tmp_path):
    code = """
import jax, jax.numpy as jnp
from fedjax_kd import kernels
conv = jax.jit(lambda x, w: kernels.conv2d(x, w))
x, w = jnp.ones((1, 6, 6, 1)), jnp.ones((3, 3, 1, 2))
text = conv.lower(x, w).compile().as_text()
print(" convolution(" in text, kernels.native_status().available, float(conv(x, w).sum()))
try:
    with kernels.using("native"):
        kernels.conv2d(x, w)
except RuntimeError as error:
    print(error)
"""
    out, log = run_python(code, CXX="/nonexistent", FEDJAX_KD_CACHE_DIR=str(tmp_path))
    assert out.splitlines() == [
        "True False 512.0",
        "native kernels were asked for, but there is no compiler CXX='/nonexistent'",
    ]
    ours = [line for line in log.splitlines() if "fedjax_kd" in line]
    assert len(ours) == 1, log
    assert ours[0].startswith("WARNING:")
    assert "canonical kernels are used, which are slower: there is no compiler" in ours[0]


def test_the_platform_decides_before_anything_is_compiled(monkeypatch, caplog):
    from fedjax_kd.kernels.native import library

    monkeypatch.setattr(jax, "default_backend", lambda: "tpu")
    with caplog.at_level(logging.INFO):
        status = library._status.__wrapped__()
    assert not status.available
    assert status.reason == "the platform is tpu; native kernels are for the CPU"
    assert len(caplog.records) == 1


def test_no_build_may_change_how_numbers_behave():
    flags = {*FLAGS, *(flag for _, more in INSTRUCTION_SETS.values() for flag in more)}
    assert not flags & {"-ffast-math", "-Ofast", "-funsafe-math-optimizations"}


def test_all_sources_are_shipped_and_named():
    assert {path.name for path in SOURCE_FOLDER.glob("*.cc")} <= set(TARGETS)
    ignored = subprocess.run(
        ["git", "check-ignore", *map(str, SOURCE_FOLDER.glob("*.[ch]*"))],
        cwd=SOURCE_FOLDER,
        capture_output=True,
        text=True,
    )
    assert ignored.stdout == ""  # hatch leaves out of the wheel what git ignores


AGREE = """
import sys
sys.path.insert(0, {tests!r})
from native_cases import CONVOLUTIONS, arrays, oracle, relative_error
import jax, jax.numpy as jnp
from fedjax_kd.kernels import conv2d, conv_group_norm, native_status, using
assert native_status().instruction_set == {name!r}, native_status()
for case in CONVOLUTIONS:
    x, w, dy = arrays(*case)
    stride, pads = case[2:]
    with using("native"):
        y, pull = jax.vjp(lambda x, w: conv2d(x, w, stride=stride, padding=pads), x, w)
        got = y, *pull(dy)
    for a, b in zip(got, oracle(x, w, dy, stride, pads)):
        assert relative_error(a, b) < 3e-6, (case, relative_error(a, b))
for channels, groups in ((8, 4), (20, 5)):
    x, w, _ = arrays((2, 7, 7, 3), (3, 3, 3, channels), (1, 1), ((1, 1), (1, 1)))
    def loss(x, w):
        scale = jnp.linspace(-1.0, 1.0, channels)
        return jnp.sum(jnp.sin(conv_group_norm(x, w, scale, scale, groups)))
    found = []
    for form in ("native", "canonical"):
        with using(form):
            found.append(jax.grad(loss, (0, 1))(jnp.asarray(x), jnp.asarray(w)))
    for a, b in zip(*found):
        assert relative_error(a, b) < 1e-5
print("agreed")
"""


@pytest.mark.slow
@pytest.mark.parametrize("name", ["avx2", "plain"])
def test_narrower_instructions_agree(native, tmp_path, name):
    """The other builds of all sources, each in a process of its own."""
    if name == "avx2" and native.instruction_set == "plain":
        pytest.skip("this processor has no AVX2")
    out, _ = run_python(
        AGREE.format(tests=os.path.dirname(__file__), name=name),
        FEDJAX_KD_INSTRUCTION_SET=name,
        FEDJAX_KD_CACHE_DIR=str(tmp_path),
    )
    assert out == "agreed\n"


# --- the choice ---


def test_the_form_is_asked_for_by_context_else_by_the_environment(monkeypatch):
    monkeypatch.delenv("FEDJAX_KD_KERNELS", raising=False)
    assert current_form() == "auto"
    monkeypatch.setenv("FEDJAX_KD_KERNELS", "canonical")
    assert current_form() == "canonical"
    with kernels.using("native"):
        assert current_form() == "native"
        with kernels.using("auto"):
            assert current_form() == "auto"
        assert current_form() == "native"
    monkeypatch.setenv("FEDJAX_KD_KERNELS", "fast")
    with pytest.raises(
        ValueError, match="FEDJAX_KD_KERNELS must be one of auto, native, canonical"
    ):
        current_form()
    with pytest.raises(ValueError, match="form must be one of auto, native, canonical; got 'fast'"):
        kernels.using("fast")  # pyright: ignore[reportArgumentType]


def test_able_and_pays_decide(native):
    with kernels.using("auto"):
        assert use_native()
        assert not use_native(pays=False)
        assert not use_native(able=False)
    with kernels.using("native"):
        assert use_native(pays=False)
        assert not use_native(able=False)
    with kernels.using("canonical"):
        assert not use_native()


def test_a_program_is_traced_again_for_another_form_and_only_then():
    seen = []

    @jax.jit
    def program(x):
        def note(c):
            seen.append(current_form())
            return c

        x = jax.vmap(note)(x)
        x = jax.lax.fori_loop(0, 2, lambda _, c: note(c), x)
        return x + jax.grad(lambda y: jnp.sum(note(y)))(x)

    x = jnp.ones(3)
    for form in ("auto", "canonical", "auto", "canonical"):
        with kernels.using(form):
            program(x)
    assert set(seen[: len(seen) // 2]) == {"auto"}
    assert set(seen[len(seen) // 2 :]) == {"canonical"}
    traced = len(seen)
    with kernels.using("canonical"):
        program(x)
    assert len(seen) == traced
