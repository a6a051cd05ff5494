"""Who trains which student where: tabular Q-learning and the policies it is compared with."""

from fedjax_kd.policy.actions import (
    DEVICE,
    SERVER,
    decode,
    encode,
    n_students,
    offloaded,
    offloaded_before,
)
from fedjax_kd.policy.catalog import FIXED_POLICIES, FixedPolicy
from fedjax_kd.policy.episode import RewardKind
from fedjax_kd.policy.exhaustive import ExhaustiveResult, count_decisions, exhaustive
from fedjax_kd.policy.fixed import (
    all_device,
    all_server,
    fixed_place,
    fixed_student,
    greedy,
    largest,
    smallest,
    uniform,
)
from fedjax_kd.policy.gap import OptimalityGap, optimality_gap
from fedjax_kd.policy.q_learning import (
    LearningTrace,
    PrefixUtility,
    QLearningRates,
    QLearningResult,
    q_learning,
    trace_episodes,
)

__all__ = [
    "DEVICE",
    "FIXED_POLICIES",
    "SERVER",
    "ExhaustiveResult",
    "FixedPolicy",
    "LearningTrace",
    "OptimalityGap",
    "PrefixUtility",
    "QLearningRates",
    "QLearningResult",
    "RewardKind",
    "all_device",
    "all_server",
    "count_decisions",
    "decode",
    "encode",
    "exhaustive",
    "fixed_place",
    "fixed_student",
    "greedy",
    "largest",
    "n_students",
    "offloaded",
    "offloaded_before",
    "optimality_gap",
    "q_learning",
    "smallest",
    "trace_episodes",
    "uniform",
]
