"""fedjax_kd: knowledge distillation in heterogeneous federated learning, simulated with JAX."""

__version__ = "0.1.0"
