"""Which form runs the clients of each architecture in a study, and how that was decided.

The choice is the engine's and never part of a study's identity, but it decides the last bits of its
results, so it is written into the manifest before anything is trained. A study that is run again in
the folder of its interrupted run takes the choices recorded there.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from fedjax_kd.kernels.native import current_form, native_status
from fedjax_kd.models import Model
from fedjax_kd.training import Execution, Rates
from fedjax_kd.training.execution import parse_form
from fedjax_kd.training.processes import from_first
from fedjax_kd.training.trial import choose_execution


class Job(NamedTuple):
    """Training that a study is going to do.

    Attributes:
        label: what names it in the manifest; the same in every run of the study.
        model: the architecture.
        batch_size: examples per step.
        counts: examples of each client that one program trains.
        values: rates of the training.
    """

    label: str
    model: Model
    batch_size: int
    counts: tuple[int, ...]
    values: Rates


class Plan(NamedTuple):
    """The executions of a study.

    Attributes:
        base: the devices, in the platform's usual form; for work that is not local training.
        chosen: the choice for every job.
        asked: `auto` or the form that was asked for.
        trials: what was measured, as it stands in the manifest.
    """

    base: Execution
    chosen: Mapping[tuple[Model, int], Execution]
    asked: str
    trials: tuple[dict[str, Any], ...]

    def of(self, model: Model, batch_size: int) -> Execution:
        """How clients of this architecture are run; the usual form where nothing was planned."""
        return self.chosen.get((model, batch_size), self.base)

    def describe(self) -> dict[str, Any]:
        """The plan as the manifest has it."""
        return {
            "asked": self.asked,
            "form": ", ".join(sorted({e.label for e in self.chosen.values()} or {self.base.label})),
            **_machine(self.base),
            "trials": list(self.trials),
        }


def kernels_in_use() -> str:
    """The form of the numeric kernels, as the manifest has it."""
    status = native_status()
    native = current_form() != "canonical" and status.available
    return f"native, {status.instruction_set}" if native else "canonical"


def _machine(base: Execution) -> dict[str, Any]:
    return {
        "devices": base.n_devices,
        "platform": base.devices[0].platform,
        "kernels": kernels_in_use(),
    }


def other_than(recorded: Mapping[str, Any] | None, plan: Plan) -> str:
    """In what a plan differs from that of the run that it goes on with; empty where in nothing.

    Another form, device or kernel adds numbers up in another order: results are the same but for
    their last bits.
    """
    if not recorded:
        return ""
    now = plan.describe()
    names = ("form", "devices", "platform", "kernels")
    changed = [name for name in names if name in recorded and recorded[name] != now[name]]
    return ", ".join(f"{name} {recorded[name]} then, {now[name]} now" for name in changed)


def _same_machine(recorded: Mapping[str, Any] | None, base: Execution) -> dict[str, Any]:
    """What an earlier run recorded, if it ran on devices and kernels like these; else nothing."""
    if not recorded:
        return {}
    here = _machine(base)
    return dict(recorded) if {name: recorded.get(name) for name in here} == here else {}


def make_plan(
    jobs: Iterable[Job],
    base: Execution,
    *,
    asked: str = "auto",
    recorded: Mapping[str, Any] | None = None,
    memory: Path | None = None,
) -> Plan:
    """Decides how each architecture's clients are run.

    Args:
        jobs: the training that is going to be done; of several with one architecture and batch
            size the first counts.
        base: the devices, in the platform's usual form.
        asked: `auto`, or a form for all architectures.
        recorded: the `execution` of the manifest of the same study's interrupted run; its choices,
            pinned or measured, are kept unless `asked` pins another form, or it ran on other
            devices or with other kernels.
        memory: file in which outcomes of trials are kept, see `choose_execution`.

    Returns:
        The plan.

    Raises:
        ValueError: if the form is unknown; says what is allowed.
    """
    wanted: dict[tuple[Model, int], Job] = {}
    for job in jobs:
        wanted.setdefault((job.model, job.batch_size), job)
    before = from_first(lambda: _same_machine(recorded, base))
    if asked == "auto":
        asked = before.get("asked", "auto")
    if asked != "auto":
        form, width = parse_form(asked)
        pinned = base._replace(form=form, width=width)
        return Plan(pinned, dict.fromkeys(wanted, pinned), asked, ())
    known = {row.get("job"): row for row in before.get("trials", ())}
    chosen, rows = {}, []
    for key, job in wanted.items():
        row = known.get(job.label, {})
        if "form" not in row:
            trial = choose_execution(
                job.model,
                batch_size=job.batch_size,
                counts=job.counts,
                values=job.values,
                execution=base,
                memory=memory,
            )
            row = {"job": job.label, **trial.row(job.model)}
        form, width = parse_form(row["form"])
        chosen[key] = base._replace(form=form, width=width)
        rows.append(row)
    return Plan(base, chosen, asked, tuple(rows))
