"""Read pickled arrays without running what a pickle may contain.

CIFAR's python archives and the smartwatch recordings are pickles. Only the constructors of NumPy
arrays and scalars are let through; any other name in the pickle is refused.
"""

from __future__ import annotations

import io
import pickle

import numpy as np

from fedjax_kd.data.errors import RawFilesError

_reconstruct = np._core.multiarray._reconstruct  # type: ignore[attr-defined]
_scalar = np._core.multiarray.scalar  # type: ignore[attr-defined]


def _latin1(text: str, encoding: str) -> bytes:
    """How protocol 2 writes `bytes`: as text, with the codec that turns it back."""
    if encoding != "latin1":
        raise RawFilesError(f"refused the codec {encoding!r} in a pickle")
    return text.encode("latin1")


_ALLOWED = {
    ("_codecs", "encode"): _latin1,
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
    ("numpy.core.multiarray", "_reconstruct"): _reconstruct,
    ("numpy._core.multiarray", "_reconstruct"): _reconstruct,
    ("numpy.core.multiarray", "scalar"): _scalar,
    ("numpy._core.multiarray", "scalar"): _scalar,
}


class _ArraysOnly(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> object:
        if (module, name) not in _ALLOWED:
            raise RawFilesError(
                f"refused to unpickle {module}.{name}: a file of arrays does not contain it"
            )
        return _ALLOWED[module, name]


def load_pickle(content: bytes, what: str) -> object:
    """The object in a pickle made of containers, strings, numbers and NumPy arrays.

    Python 2 strings come back as `bytes`.

    Raises:
      RawFilesError: the pickle is damaged, or asks for anything else.
    """
    try:
        return _ArraysOnly(io.BytesIO(content), encoding="bytes").load()
    except RawFilesError as error:
        raise RawFilesError(f"{what}: {error}") from None
    except Exception as error:
        raise RawFilesError(f"{what}: not a whole pickle ({error})") from error


def load_object_array(content: bytes, what: str) -> np.ndarray:
    """An array of objects from the bytes of a .npy file, under the same rule."""
    stream = io.BytesIO(content)
    try:
        version = np.lib.format.read_magic(stream)
        read_header = {
            (1, 0): np.lib.format.read_array_header_1_0,
            (2, 0): np.lib.format.read_array_header_2_0,
        }[version]
        read_header(stream)
    except (KeyError, ValueError) as error:
        raise RawFilesError(f"{what}: not a .npy file ({error})") from error
    return np.asarray(load_pickle(content[stream.tell() :], what))
