"""The parts of the benchmark: which cases each has, and what its numbers come to."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from .case import Case
from .process import Measured, ask_once, measure

EXAMPLES = 96  # of a client, three batches, where many clients are the point
LOCAL_EXAMPLES = 192  # six batches
STUDY_ROUNDS = 20
GIB = 2**30


class Sizes(NamedTuple):
    """How much is measured.

    Attributes:
        clients: populations of the part `clients`.
        cohort: clients drawn from them, fewer where there are fewer.
        cohorts: of the part `cohort`; the largest is what one turn trains.
        pool: clients that those are drawn from.
        fraction: cohort and population of the part `participation`.
        seeds: stacked seeds of the part `seeds`.
        turns: of each case.
        studies: times that each study of the part `seeds` is run.
        rounds: of one turn, where nothing else sets it.
    """

    clients: tuple[int, ...] = (10, 100, 1_000, 10_000)
    cohort: int = 50
    cohorts: tuple[int, ...] = (8, 16, 32, 64, 128, 256)
    pool: int = 1_000
    fraction: tuple[int, int] = (10, 100)
    seeds: tuple[int, ...] = (1, 2, 4, 8, 16)
    turns: int = 7
    studies: int = 2
    rounds: int = 5


QUICK = Sizes(
    clients=(10, 100, 1_000),
    cohort=20,
    cohorts=(8, 32),
    pool=200,
    seeds=(1, 4),
    turns=2,
    studies=1,
    rounds=2,
)


class Line(NamedTuple):
    """One case's numbers; the columns of the CSV files.

    `seconds` are those of a round, `rounds` the rounds of a turn or study. Times are medians over
    the turns with the least and the most; ratios are taken turn by turn against the reference case
    of the part, so that a busy moment hits both sides.
    """

    part: str
    case: str
    method: str
    keep: str
    clients: int
    cohort: int
    examples: int
    seeds: int
    rounds: int
    execution: str
    seconds: float
    seconds_lowest: float
    seconds_highest: float
    rounds_per_s: float
    client_step_us: float
    first_turn_s: float
    state_mib: float
    loaded_mib: float
    peak_mib: float
    reference: str
    ratio: float
    ratio_lowest: float
    ratio_highest: float


class Claim(NamedTuple):
    """A bound and what was measured against it."""

    part: str
    what: str
    measured: float
    at_most: float
    unit: str

    @property
    def met(self) -> bool:
        """Whether the bound holds."""
        return self.measured <= self.at_most


class Found(NamedTuple):
    """What a part came to."""

    lines: list[Line]
    claims: list[Claim]


def clients(sizes: Sizes, folder: Path, tell) -> Found:
    """More clients at the same cohort: rounds per second and memory."""
    cases, rounds = {}, sizes.rounds
    for n in sizes.clients:
        cohort = min(sizes.cohort, n)
        streamed = Case("fd", n, cohort, EXAMPLES, "disk", filled=True, rounds=rounds)
        cases[f"FD streamed from disk, {n:,} clients"] = streamed
        resident = Case("fedavg", n, cohort, EXAMPLES, rounds=rounds)
        cases[f"FedAvg resident, {n:,} clients"] = resident
    most, few = sizes.clients[-1], sizes.clients[1]
    in_memory = Case("fd", most, sizes.cohort, EXAMPLES, "memory", filled=True, rounds=rounds)
    cases[f"FD streamed from memory, {most:,} clients"] = in_memory
    newcomers = Case("fd", most, sizes.cohort, EXAMPLES, "disk", rounds=rounds)
    cases[f"FD streamed from disk, {most:,} clients, all new"] = newcomers
    for n in sizes.clients[1:3]:
        resident = Case("fd", n, sizes.cohort, EXAMPLES, rounds=rounds)
        cases[f"FD resident, {n:,} clients"] = resident

    def reference(case: Case) -> str:
        method = "FD streamed from disk" if case.method == "fd" else "FedAvg resident"
        return f"{method}, {few:,} clients"

    lines = _lines(
        "clients", cases, measure(list(cases.values()), sizes.turns, folder, tell), reference
    )
    by_name = {line.case: line for line in lines}
    claims = []
    for name in (
        f"FD streamed from disk, {most:,} clients",
        f"FD streamed from memory, {most:,} clients",
        f"FD streamed from disk, {most:,} clients, all new",
    ):
        line = by_name[name]
        claims.append(
            Claim("clients", f"{name}: time of a round over that of {few:,}", line.ratio, 1.3, "x")
        )
        claims.append(Claim("clients", f"{name}: peak memory", line.peak_mib / 1024, 4.0, "GiB"))
    return Found(lines, claims)


def cohort(sizes: Sizes, folder: Path, tell) -> Found:
    """Larger cohorts at the same examples per client: cost of one client's local step."""
    most = sizes.cohorts[-1]
    cases = {
        f"{label}, {size} of {sizes.pool:,}": Case(
            method, sizes.pool, size, LOCAL_EXAMPLES, rounds=most // size
        )
        for method, label in (("fedavg", "FedAvg"), ("fd", "FD"))
        for size in sizes.cohorts
    }

    def reference(case: Case) -> str:
        label = "FedAvg" if case.method == "fedavg" else "FD"
        return f"{label}, {most} of {sizes.pool:,}"

    measured = measure(list(cases.values()), sizes.turns, folder, tell)
    lines = _lines("cohort", cases, measured, reference, of=_client_step)
    claims = []
    for method in ("fedavg", "fd"):
        steps = [line.client_step_us for line in lines if line.method == method]
        what = f"{method}: dearest client-step over cheapest, cohorts {sizes.cohorts[0]} to {most}"
        claims.append(Claim("cohort", what, max(steps) / min(steps), 1.15, "x"))
    return Found(lines, claims)


def participation(sizes: Sizes, folder: Path, tell) -> Found:
    """A round of some against a round of all, and what padding executes."""
    some, whole = sizes.fraction
    cases = {}
    for method, label in (("fedavg", "FedAvg"), ("fd", "FD")):
        every = Case(method, whole, None, 60_000 // whole, partition="equal")
        cases[f"{label}, all {whole}"] = every
        part = Case(method, whole, some, 60_000 // whole, partition="equal", rounds=sizes.rounds)
        cases[f"{label}, {some} of {whole}"] = part

    def reference(case: Case) -> str:
        return f"{'FedAvg' if case.method == 'fedavg' else 'FD'}, all {whole}"

    measured = measure(list(cases.values()), sizes.turns, folder, tell)
    lines = _lines("participation", cases, measured, reference)
    claims = [
        Claim(
            "participation", f"{line.case}: time of a round over that of all", line.ratio, 0.13, "x"
        )
        for line in lines
        if line.cohort == some
    ]
    for batch_size in (32, 10):
        case = Case("fedavg", 100, None, 0, partition="dirichlet", batch_size=batch_size)
        tell(f"counts padding at batch size {batch_size}")
        for form, ratio in ask_once(case, "padding", folder)["ratios"].items():
            what = f"Dirichlet(0.1) over 100 clients, batch {batch_size}, {form}: executed ÷ useful"
            bound = 1.25 if "reported" in form else float("inf")
            claims.append(Claim("participation", what, ratio, bound, "x"))
    return Found(lines, claims)


def seeds(sizes: Sizes, folder: Path, tell) -> Found:
    """Seeds stacked into one program: a whole study, compilation included."""
    cases = {
        f"{n} seed{'s' if n > 1 else ''}": Case(
            "fedavg", 10, None, 300, rounds=STUDY_ROUNDS, seeds=n
        )
        for n in sizes.seeds
    }
    studies: dict[str, list[dict]] = {name: [] for name in cases}
    for repeat in range(sizes.studies):
        for name, case in cases.items():
            tell(f"study {repeat + 1} of {sizes.studies}: {name}")
            studies[name].append(ask_once(case, "study", folder))
    measured = [
        Measured(
            case,
            [answer["seconds"] for answer in studies[name]],
            0.0,
            0,
            max(answer["peak_bytes"] for answer in studies[name]),
            0,
            "",
        )
        for name, case in cases.items()
    ]
    first, *_, last = cases
    lines = _lines("seeds", cases, measured, lambda case: first)
    what = f"study of {STUDY_ROUNDS} rounds, {last} over {first}, compilation included"
    bound = 12.0 * sizes.seeds[-1] / 16
    return Found(lines, [Claim("seeds", what, lines[-1].ratio, bound, "x")])


def devices(sizes: Sizes, folder: Path, tell) -> Found:
    """One device, one device with several threads, two devices."""
    kinds = {
        "one device": (1, False),
        "one device, several threads": (1, True),
        "two devices": (2, False),
    }
    cases = {
        f"{label}, {kind}": Case(
            method, 100, sizes.cohort, LOCAL_EXAMPLES, rounds=2, devices=count, threads=threads
        )
        for method, label in (("fedavg", "FedAvg"), ("fd", "FD"))
        for kind, (count, threads) in kinds.items()
    }

    def reference(case: Case) -> str:
        return f"{'FedAvg' if case.method == 'fedavg' else 'FD'}, one device"

    measured = measure(list(cases.values()), sizes.turns, folder, tell)
    return Found(_lines("devices", cases, measured, reference), [])


PARTS: dict[str, Callable[..., Found]] = {
    "clients": clients,
    "cohort": cohort,
    "participation": participation,
    "seeds": seeds,
    "devices": devices,
}


def _client_step(measured: Measured, round_s: float) -> float:
    return round_s / (measured.case.participants * measured.case.steps)


def _lines(
    part: str,
    cases: dict[str, Case],
    measured: Sequence[Measured],
    reference: Callable[[Case], str],
    of: Callable[[Measured, float], float] = lambda measured, round_s: round_s,
) -> list[Line]:
    by_name = dict(zip(cases, measured, strict=True))
    lines = []
    for name, one in by_name.items():
        other = by_name[reference(one.case)]
        ratios = [
            of(one, mine_s) / of(other, its_s)
            for mine_s, its_s in zip(one.rounds_s, other.rounds_s, strict=True)
        ]
        round_s, case = statistics.median(one.rounds_s), one.case
        lines.append(
            Line(
                part=part,
                case=name,
                method=case.method,
                keep=case.keep,
                clients=case.clients,
                cohort=case.cohort or case.clients,
                examples=case.examples,
                seeds=case.seeds,
                rounds=case.rounds,
                execution=one.execution,
                seconds=round_s,
                seconds_lowest=min(one.rounds_s),
                seconds_highest=max(one.rounds_s),
                rounds_per_s=1 / round_s,
                client_step_us=1e6 * _client_step(one, round_s),
                first_turn_s=one.first_s,
                state_mib=one.row_bytes * case.clients * case.seeds / 2**20,
                loaded_mib=one.loaded_bytes / 2**20,
                peak_mib=one.peak_bytes / 2**20,
                reference=reference(case),
                ratio=statistics.median(ratios),
                ratio_lowest=min(ratios),
                ratio_highest=max(ratios),
            )
        )
    return lines
