"""The messages of partitioners that promise every user a minimum of examples."""

from __future__ import annotations

from fedjax_kd.data.partition_specs import Dirichlet, DirichletPooled, QuantitySkew


def check_feasible(n_examples: int, n_users: int, min_examples: int) -> None:
    """Raise `ValueError` if no partition at all can give every user the minimum."""
    if n_users < 1:
        raise ValueError(f"data.users: {n_users}; at least 1 is allowed")
    feasible = n_examples // n_users
    if feasible < 1:
        raise ValueError(
            f"data.users: {n_users} users cannot share {n_examples} examples; at most {n_examples}"
            " are allowed"
        )
    if min_examples > feasible:
        raise ValueError(
            f"data.partition.min_examples: {min_examples} for each of {n_users} users needs"
            f" {n_users * min_examples} examples, but there are {n_examples}; at most {feasible} is"
            " feasible"
        )


def not_reached(
    spec: Dirichlet | DirichletPooled | QuantitySkew, n_users: int, best: int
) -> ValueError:
    """The error after the last try; `best` is the largest minimum that a try reached."""
    lower = f", or lower data.partition.min_examples to {best}" if best else ""
    return ValueError(
        f"data.partition.min_examples: {spec.min_examples} for each of {n_users} users was not"
        f" reached in max_tries = {spec.max_tries} draws with alpha = {spec.alpha:g}; in the best"
        f" draw the smallest user held {best}. Raise data.partition.alpha or max_tries, take fewer"
        f" users{lower}"
    )
