"""pFedAFM (arXiv:2404.17847) in PyTorch, clients one after another."""

from __future__ import annotations

import torch  # pyright: ignore[reportMissingImports]
import torch.nn.functional as F  # pyright: ignore[reportMissingImports]
from torch import nn  # pyright: ignore[reportMissingImports]

from . import torch_training as training
from .architectures import FEATURES
from .job import Job, named
from .protocol import Contestant, Done
from .torch_models import build, exported, features


def prepare(job: Job, memory_format: torch.memory_format) -> Contestant:
    """A contestant for the job."""
    terms, arrays = job.terms, job.arrays
    kind = [terms.architectures[k % len(terms.architectures)] for k in range(terms.clients)]
    models = [
        build(which, job.model(f"client{k}"), terms.n_classes).to(memory_format=memory_format)
        for k, which in enumerate(kind)
    ]
    mixings = [nn.Parameter(torch.ones(FEATURES)) for _ in models]
    common = build(terms.shared, job.model("shared"), terms.n_classes)  # pyright: ignore[reportArgumentType]
    common = common.to(memory_format=memory_format)
    common.dense[2].requires_grad_(False)  # its own header, which nobody uses
    theta = [leaf for leaf in common.parameters() if leaf.requires_grad]
    server = [leaf.detach().clone() for leaf in theta]
    sent = [leaf.clone() for leaf in server]
    total = [torch.zeros_like(leaf) for leaf in server]
    inputs, labels = training.images(arrays["inputs"]), torch.from_numpy(arrays["labels"])
    orders = {name: torch.from_numpy(arrays[f"{name}_order"]) for name in ("personal", "shared")}
    per_epoch = terms.steps // terms.passes

    def mixed(k, x):
        share = mixings[k]
        with torch.no_grad():
            given = features(common, x)
        own = features(models[k], x)
        return models[k].dense[-1](share * own + (1 - share) * given)

    def epochs(loss, optimiser, order, tally, clipped, after=lambda: None):
        value = torch.zeros(())
        for part in order.split(per_epoch):
            value = training.train(loss, optimiser, part, tally, after, clipped)
        return value

    def personal(k, order, tally):
        x, y, share = inputs[k], labels[k], mixings[k]
        optimiser = training.sgd([models[k]], terms)
        optimiser.add_param_group({"params": [share]})

        def inside():
            with torch.no_grad():
                share.clamp_(0, 1)

        return epochs(
            lambda batch: F.cross_entropy(mixed(k, x[batch]), y[batch]),
            optimiser,
            order,
            tally,
            (list(models[k].parameters()), terms.gradient_clip),
            inside,
        )

    def shared(k, order, tally):
        x, y, head = inputs[k], labels[k], models[k].dense[-1]
        weight, bias = head.weight.detach(), head.bias.detach()
        return epochs(
            lambda batch: F.cross_entropy(
                F.linear(features(common, x[batch]), weight, bias), y[batch]
            ),
            training.sgd([common], terms),
            order,
            tally,
            (theta, terms.gradient_clip),
        )

    @torch.no_grad()
    def load(leaves):
        torch._foreach_copy_(theta, leaves)

    def round_(number: int) -> Done:
        losses, tally = [], []
        torch._foreach_copy_(sent, server)
        torch._foreach_zero_(total)
        for k in range(terms.clients):
            load(sent)
            losses.append((k, personal(k, orders["personal"][number, k], tally)))
            loss = shared(k, orders["shared"][number, k], tally)
            losses.append((terms.clients + k, loss))
            with torch.no_grad():
                torch._foreach_add_(total, theta, alpha=terms.examples)
        torch._foreach_copy_(server, total)
        torch._foreach_div_(server, terms.clients * terms.examples)
        return Done(len(tally), sum(tally), training.losses_of(losses, 2 * terms.clients))

    def weights():
        load(server)
        like = job.model("shared")
        found = named("shared", exported(common, terms.shared, like))  # pyright: ignore[reportArgumentType]
        for k, (model, which) in enumerate(zip(models, kind, strict=True)):
            found |= named(f"client{k}", exported(model, which, job.model(f"client{k}")))
        return found

    def evaluate():
        load(sent)
        scores = [training.score(lambda x, k=k: mixed(k, x), job) for k in range(terms.clients)]
        return training.mean_score(scores)

    return Contestant(round_, weights, evaluate)
