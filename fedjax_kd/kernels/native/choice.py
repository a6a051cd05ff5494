"""Which form of a kernel a program gets: native C++, or canonical JAX operations.

The choice is made while a program is traced. It is part of the key under which JAX keeps traced
and compiled programs, so one function may be compiled in both forms side by side.

The platform is asked of `jax.default_backend()`. `jax.lax.platform_dependent` would decide later,
when the program is lowered, but traces both forms of every kernel and puts a branch into programs
that may be lowered for several platforms; programs here run on the default backend.
"""

from __future__ import annotations

import os
from contextlib import AbstractContextManager
from typing import Literal, get_args

import jax

from fedjax_kd.kernels.native.library import native_status

Form = Literal["auto", "native", "canonical"]
FORMS: tuple[str, ...] = get_args(Form)
VARIABLE = "FEDJAX_KD_KERNELS"

_form = jax.make_user_context(default_value=None)  # None: what the environment says


def using(form: Form) -> AbstractContextManager[None]:
    """Within the `with` block (of this thread), kernels are traced in the given form.

    Args:
        form: `auto` takes the native form where it can be had and is the faster one; `native`
            wherever it can do the work at all; `canonical` never.

    Returns:
        The context manager.

    Raises:
        ValueError: if there is no such form.
    """
    return _form(_checked(form, "form"))


def current_form() -> str:
    """The form asked for: by `using`, else by the variable `FEDJAX_KD_KERNELS`, else `auto`.

    Raises:
        ValueError: if the variable holds something else.
    """
    if _form.value is not None:
        return _form.value
    return _checked(os.environ.get(VARIABLE) or "auto", VARIABLE)


def use_native(*, able: bool = True, pays: bool = True) -> bool:
    """Whether the kernel that is being traced should take its native form.

    Args:
        able: whether the native form takes these shapes and dtypes; if not, the canonical form is
            used without a word.
        pays: whether it is the faster one; asked under `auto` only.

    Returns:
        The choice.

    Raises:
        RuntimeError: if the form is `native` and the native kernels are not available.
    """
    form = current_form()
    if form == "canonical" or not able or (form == "auto" and not pays):
        return False
    status = native_status()
    if form == "native" and not status.available:
        raise RuntimeError(f"native kernels were asked for, but {status.reason}")
    return status.available


def _checked(form: str, name: str) -> str:
    if form not in FORMS:
        raise ValueError(f"{name} must be one of {', '.join(FORMS)}; got {form!r}")
    return form
