"""Dividing compute and bandwidth among users: a public, batched convex solver."""

from fedjax_kd.allocation.problem import (
    AllocationProblem,
    AllocationSolution,
    Status,
    problem_for,
    validate,
)
from fedjax_kd.allocation.solve import METHODS, OBJECTIVES, Method, Objective, solve

__all__ = [
    "METHODS",
    "OBJECTIVES",
    "AllocationProblem",
    "AllocationSolution",
    "Method",
    "Objective",
    "Status",
    "problem_for",
    "solve",
    "validate",
]
