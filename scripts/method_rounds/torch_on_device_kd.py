"""On-device KD (arXiv:2503.11151) in PyTorch, clients one after another."""

from __future__ import annotations

import torch  # pyright: ignore[reportMissingImports]
import torch.nn.functional as F  # pyright: ignore[reportMissingImports]

from . import torch_training as training
from .job import Job, named
from .protocol import Contestant, Done
from .torch_models import build, exported


def prepare(job: Job, memory_format: torch.memory_format) -> Contestant:
    """A contestant for the job."""
    terms, arrays, heat = job.terms, job.arrays, job.terms.temperature
    small, large = (
        build(which, job.model(name), terms.n_classes).to(memory_format=memory_format)
        for name, which in zip(("auxiliary", "target"), terms.architectures, strict=True)
    )
    inputs, soft_inputs = (training.images(arrays[name]) for name in ("inputs", "soft_inputs"))
    labels = torch.from_numpy(arrays["labels"])
    orders = {
        name: torch.from_numpy(arrays[f"{name}_order"]) for name in ("auxiliary", "target", "soft")
    }
    held = [(model, list(model.parameters())) for model in (small, large)]
    servers = [[leaf.detach().clone() for leaf in leaves] for _, leaves in held]
    sums = [[torch.zeros_like(leaf) for leaf in leaves] for leaves in servers]

    def labelled(model, k, order, optimiser, tally):
        x, y = inputs[k], labels[k]
        return training.train(
            lambda batch: F.cross_entropy(model(x[batch]), y[batch]), optimiser, order, tally
        )

    def distilled(k, order, weight, optimiser, tally):
        x = soft_inputs[k]

        def loss(batch):
            with torch.no_grad():
                target = F.log_softmax(small(x[batch]) / heat, 1)
            log_p = F.log_softmax(large(x[batch]) / heat, 1)
            divergence = F.kl_div(log_p, target, reduction="batchmean", log_target=True)
            return weight * heat**2 * divergence

        training.train(loss, optimiser, order, tally)

    @torch.no_grad()
    def load(which: int):
        torch._foreach_copy_(held[which][1], servers[which])

    @torch.no_grad()
    def add(which: int):
        torch._foreach_add_(sums[which], held[which][1])

    @torch.no_grad()
    def settle(which: int, count: int):
        torch._foreach_copy_(servers[which], sums[which])
        torch._foreach_div_(servers[which], count)
        torch._foreach_zero_(sums[which])
        load(which)

    def round_(number: int) -> Done:
        losses, tally = [], []
        chosen = arrays["chosen"][number].tolist()
        for seat, k in enumerate(chosen):
            load(0)
            order, optimiser = orders["auxiliary"][number, seat], training.sgd([small], terms)
            losses.append((k, labelled(small, k, order, optimiser, tally)))
            add(0)
        settle(0, len(chosen))  # what is in `small` now teaches
        weight = float(arrays["weight"][number])
        for k in range(terms.strong):
            load(1)
            optimiser = training.sgd([large], terms)
            losses.append((k, labelled(large, k, orders["target"][number, k], optimiser, tally)))
            distilled(k, orders["soft"][number, k], weight, optimiser, tally)
            add(1)
        settle(1, terms.strong)
        return Done(len(tally), sum(tally), training.losses_of(losses, terms.clients))

    def weights():
        found = {}
        for name, model, which in zip(
            ("auxiliary", "target"), (small, large), terms.architectures, strict=True
        ):
            found |= named(name, exported(model, which, job.model(name)))
        return found

    return Contestant(round_, weights, lambda: training.score(large, job))
