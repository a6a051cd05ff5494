"""Kernels in C++ for the CPU, compiled on the machine they run on, and the choice to use them."""

from fedjax_kd.kernels.native.call import call_native
from fedjax_kd.kernels.native.choice import FORMS, Form, current_form, use_native, using
from fedjax_kd.kernels.native.errors import NativeUnavailable
from fedjax_kd.kernels.native.library import NativeStatus, native_status

__all__ = [
    "FORMS",
    "Form",
    "NativeStatus",
    "NativeUnavailable",
    "call_native",
    "current_form",
    "native_status",
    "use_native",
    "using",
]
