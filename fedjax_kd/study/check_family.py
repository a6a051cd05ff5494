"""Rules between the settings of a study of the family; nothing is read or compiled here."""

from __future__ import annotations

from collections.abc import Iterator

from fedjax_kd.methods.catalog import METHODS
from fedjax_kd.study.settings_family import REFERENCE, FamilyStudy
from fedjax_kd.study.settings_upload import ClipAndNoise, Quantise

ON_PUBLIC_EXAMPLES = ("fedmd", "ds_fl", "feddf")
EQUAL_FEATURES = ("lg_fedavg", "fedproto")  # heads, or features, of all architectures meet
COUNTS_BY_EXAMPLES = ("fedavg", "fedprox", "lg_fedavg", "feddf")  # uploads weigh unequally
SENDS_PROBABILITIES = ("ds_fl",)

# A channel's place in the order in which an upload passes them; a secure sum ends it.
_ORDER = {"clip_and_noise": 0, "quantise": 1, "delta": 2, "secure_sum": 3}


def rules_of_family(settings: FamilyStudy, in_grid: bool = False) -> Iterator[str]:
    """Yields a line for every broken rule; a row of a grid needs no reference of its own."""
    if not in_grid and REFERENCE not in settings.contestants:
        yield (
            f"contestants: {REFERENCE} is missing; it sends nothing, and every exchange is held "
            "against it"
        )
    for name in settings.learning_rates:
        if name not in settings.contestants:
            yield (
                f"learning_rates.{name}: there is no such contestant; allowed: those of "
                f"contestants, which are {', '.join(settings.contestants)}"
            )
    yield from _public(settings)
    yield from _upload(settings)


def _public(settings: FamilyStudy) -> Iterator[str]:
    public, chosen = settings.data.public, settings.public_set
    if chosen.sharpen.kind == "none" and chosen.sharpen.strength is not None:
        yield (
            f"public_set.sharpen.strength: found {chosen.sharpen.strength} with kind none; "
            "allowed: null"
        )
    wanting = [name for name in settings.contestants if name in ON_PUBLIC_EXAMPLES]
    if public is None:
        if wanting:
            yield (
                f"data.public: missing; {', '.join(wanting)} need public examples: kind split (of "
                "the training set) or source (another data set)"
            )
        return
    if wanting and chosen.per_round > public.examples:
        yield (
            f"public_set.per_round: found {chosen.per_round}; allowed: at most "
            f"data.public.examples, which is {public.examples}"
        )
    if "fedmd" in wanting and chosen.pretraining_epochs and not public.labelled:
        yield (
            f"public_set.pretraining_epochs: found {chosen.pretraining_epochs}; allowed: 0, for "
            "the public examples have no labels; data.public of kind split has them with "
            "labelled: true"
        )


def _upload(settings: FamilyStudy) -> Iterator[str]:
    steps = settings.upload
    kinds = [step.kind for step in steps]
    places = [_ORDER[kind] for kind in kinds]
    if places != sorted(set(places)):
        yield (
            f"upload: found {', '.join(kinds)}; allowed: each at most once and in the order "
            f"{', '.join(_ORDER)}"
        )
    if "delta" in kinds and "secure_sum" in kinds:
        yield (
            "upload: found delta and secure_sum; allowed: one of them, for a server that sees "
            "sums only cannot keep a user's old rows"
        )
    if "quantise" in kinds and "secure_sum" in kinds:
        yield (
            "upload: found quantise and secure_sum; allowed: one of them, for under masks every "
            "number takes the secure sum's bits"
        )
    for name in settings.contestants:
        if "secure_sum" in kinds and METHODS[name].receiver_reads == "uploads":
            yield (
                f"upload: found secure_sum with the contestant {name}; allowed: contestants whose "
                "server needs sums alone, while this one's looks at each upload by itself"
            )
    if "delta" in kinds and settings.data.public is not None:
        wanting = [name for name in settings.contestants if name in ON_PUBLIC_EXAMPLES[:2]]
        if wanting and settings.public_set.per_round != settings.data.public.examples:
            yield (
                f"upload: found delta, with public_set.per_round {settings.public_set.per_round}; "
                f"allowed for {', '.join(wanting)}: data.public.examples, which is "
                f"{settings.data.public.examples}, so that a row is the same example in every round"
            )
    for index, step in enumerate(steps):
        if isinstance(step, ClipAndNoise) and (step.multiplier is None) == (step.epsilon is None):
            found = "neither" if step.multiplier is None else "both"
            yield f"upload.{index}: found {found} of multiplier and epsilon; allowed: one of them"
        drop_out = settings.participation.drop_out
        if isinstance(step, ClipAndNoise) and step.noise == "share" and drop_out:
            yield (
                f"upload.{index}.noise: found share with participation.drop_out {drop_out}; "
                "allowed: each, for the sum of fewer uploads carries less noise"
            )
        if isinstance(step, ClipAndNoise) and step.noise == "share" and "secure_sum" not in kinds:
            yield (
                f"upload.{index}.noise: found share without a secure_sum after it; allowed: each, "
                "for who reads single uploads sees a share of the noise only"
            )
        weighed = [name for name in settings.contestants if name in COUNTS_BY_EXAMPLES]
        if isinstance(step, ClipAndNoise) and step.noise == "share" and weighed:
            yield (
                f"upload.{index}.noise: found share with {', '.join(weighed)}; allowed: each, for "
                "uploads that weigh by their examples can move the sum by more than the clip"
            )
        if isinstance(step, Quantise) and step.form == "largest_remainder":
            if "clip_and_noise" in kinds:
                yield (
                    f"upload.{index}.form: found largest_remainder after clip_and_noise; allowed: "
                    "uniform, for what carries noise is no longer a probability"
                )
            others = [
                name
                for name in settings.contestants
                if name not in (*SENDS_PROBABILITIES, REFERENCE)
            ]
            if others:
                yield (
                    f"upload.{index}.form: found largest_remainder with {', '.join(others)}; "
                    f"allowed: uniform, or contestants that send probabilities: "
                    f"{', '.join((*SENDS_PROBABILITIES, REFERENCE))}"
                )
