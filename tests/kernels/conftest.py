import pytest

from fedjax_kd import kernels


@pytest.fixture(scope="session")
def native():
    """The status of the native kernels, for tests that need them."""
    status = kernels.native_status()
    if not status.available:
        pytest.skip(f"no native kernels: {status.reason}")
    return status
