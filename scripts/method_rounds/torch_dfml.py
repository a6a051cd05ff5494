"""DFML (arXiv:2402.01863) in PyTorch, the models of a pool one after another.

All models answer a batch, then one backward pass of the sum of their losses and one fused step over
all of their parameters.
"""

from __future__ import annotations

import torch  # pyright: ignore[reportMissingImports]
import torch.nn.functional as F  # pyright: ignore[reportMissingImports]

from . import torch_training as training
from .job import Job, named
from .protocol import Contestant, Done
from .torch_models import build, exported

ABSENT = -1e9  # the logarithm of a class share of zero


def prepare(job: Job, memory_format: torch.memory_format) -> Contestant:
    """A contestant for the job."""
    terms, arrays, heat = job.terms, job.arrays, job.terms.temperature
    kind = [terms.architectures[k % len(terms.architectures)] for k in range(terms.clients)]
    models = [
        build(which, job.model(f"client{k}"), terms.n_classes).to(memory_format=memory_format)
        for k, which in enumerate(kind)
    ]
    inputs, labels = training.images(arrays["inputs"]), torch.from_numpy(arrays["labels"])
    orders = torch.from_numpy(arrays["order"])

    def round_(number: int) -> Done:
        pool, tally = arrays["chosen"][number].tolist(), []
        x, y = inputs[pool[0]], labels[pool[0]]
        shares = torch.bincount(y, minlength=terms.n_classes) / len(y)
        log_shares = torch.where(shares > 0, shares.log(), ABSENT)
        alpha, others = float(arrays["alpha"][number]), len(pool) - 1
        members = [models[k] for k in pool]
        optimiser = training.sgd(members, terms)
        totals = torch.zeros(len(pool))
        for part in orders[number].split(terms.steps // terms.passes):
            totals.zero_()
            for batch in part:
                optimiser.zero_grad()
                batch_x, batch_y = x[batch], y[batch]
                logits = torch.stack([model(batch_x) for model in members])
                log_p = F.log_softmax(logits / heat, 2)
                with torch.no_grad():
                    p = log_p.exp()
                    certain = (p * log_p).sum(2)
                    targets = (p.sum(0) - p) / others
                    certain = (certain.sum(0) - certain) / others
                weighted = F.log_softmax(logits + log_shares, 2)
                labelled = -weighted[:, torch.arange(len(batch)), batch_y]
                mutual = certain - (targets * log_p).sum(2)
                losses = ((1 - alpha) * labelled + alpha * heat**2 * mutual).mean(1)
                losses.sum().backward()
                optimiser.step()
                totals += losses.detach()
                tally += [len(batch)] * len(pool)
        totals /= terms.steps // terms.passes
        told = training.losses_of(list(zip(pool, totals, strict=True)), terms.clients)
        return Done(len(tally), sum(tally), told)

    def weights():
        found = {}
        for k, (model, which) in enumerate(zip(models, kind, strict=True)):
            found |= named(f"client{k}", exported(model, which, job.model(f"client{k}")))
        return found

    return Contestant(
        round_,
        weights,
        lambda: training.mean_score([training.score(model, job) for model in models]),
    )
