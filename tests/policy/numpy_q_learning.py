"""Q-learning as a plain loop over users in NumPy: the oracle, and the bench's baseline."""

from collections.abc import Callable, Iterable
from typing import NamedTuple

import numpy as np


class NumpyLearner(NamedTuple):
    """What the loop found; shapes as in the package's result."""

    q: np.ndarray
    visits: np.ndarray
    utilities: np.ndarray
    best_actions: np.ndarray
    best_utility: float


def numpy_q_learning(
    explored_per_episode: Iterable[np.ndarray],
    prefix_utility: Callable[[np.ndarray], np.ndarray],
    feasible: np.ndarray,
    learning_rate: float = 0.1,
    discount: float = 1.0,
) -> NumpyLearner:
    """Plays one episode per item: int [N], the action to explore or -1 for the greedy one."""
    users, n_actions = feasible.shape
    students = n_actions // 2
    q = np.zeros((users, users, n_actions), np.float32)
    q[np.broadcast_to(~feasible[:, None, :], q.shape)] = -np.inf
    visits = np.zeros(q.shape, np.int32)
    best_actions, best_utility = np.zeros(users, np.int32), -np.inf
    utilities = []
    actions = np.zeros(users, np.int32)
    counts = np.zeros(users, np.int32)
    for explored in explored_per_episode:
        count = 0
        for n in range(users):
            action = explored[n]
            if action < 0:
                action = q[n, count].argmax()
            actions[n] = action
            counts[n] = count
            count += action // students
        utility = prefix_utility(actions)
        utilities.append(utility[-1])
        if utility[-1] > best_utility:
            best_actions, best_utility = actions.copy(), utility[-1]
        future = np.float32(0)
        for n in reversed(range(users)):
            row = q[n, counts[n]]
            target = utility[n + 1] - utility[n] + discount * future
            row[actions[n]] += learning_rate * (target - row[actions[n]])
            visits[n, counts[n], actions[n]] += 1
            future = row.max()
    return NumpyLearner(q, visits, np.asarray(utilities), best_actions, float(best_utility))
