"""fedjax_kd: knowledge distillation in heterogeneous federated learning, simulated with JAX."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fedjax_kd.results.load import load_results as load_results

__version__ = "0.1.0"
__all__ = ["__version__", "load_results"]


def __getattr__(name: str) -> Any:
    """Imports what is asked for, so that `import fedjax_kd` by itself is light."""
    if name == "load_results":
        from fedjax_kd.results.load import load_results

        return load_results
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
