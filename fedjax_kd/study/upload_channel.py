"""From the `upload` of a study's settings to the channel that its contestants send through."""

from typing import Any

from fedjax_kd.exchange import Channel, compose, exact
from fedjax_kd.exchange.accountant import epsilon, noise_multiplier
from fedjax_kd.exchange.delta import delta
from fedjax_kd.exchange.noise import clip_and_noise
from fedjax_kd.exchange.quantise import largest_remainder, uniform
from fedjax_kd.exchange.secure_sum import secure_sum
from fedjax_kd.study.settings_family import FamilyStudy
from fedjax_kd.study.settings_upload import ClipAndNoise, Quantise, SecureSum


def channel_of(settings: FamilyStudy) -> Channel:
    """What an upload of the study goes through.

    Raises:
        ValueError: naming the setting, for numbers that a channel refuses, or an epsilon where
            nothing can be accounted for.
    """
    if not settings.upload:
        return exact()
    parts = []
    for index, step in enumerate(settings.upload):
        try:
            parts.append(_part(step, settings))
        except (ValueError, ModuleNotFoundError) as error:
            raise ValueError(f"upload.{index}: {error}") from error
    return parts[0] if len(parts) == 1 else compose(*parts)


def privacy_of(settings: FamilyStudy) -> dict[str, Any] | None:
    """What the noise of the study is worth, for the manifest; None where no noise is added.

    Epsilon is that of a user whose upload of every round is read, or the sum of all where each adds
    a share of the noise; it is None without `dp-accounting`. Neighbours differ in one user's
    uploads being zeros. By how many examples an upload is weighed, in the methods that weigh so, is
    not hidden by it.
    """
    for step in settings.upload:
        if isinstance(step, ClipAndNoise):
            multiplier = _multiplier(step, settings.rounds)
            try:
                spent = epsilon(multiplier, settings.rounds, delta=step.delta)
            except ModuleNotFoundError:
                spent = None
            return {
                "unit": "user",
                "clip": step.clip,
                "multiplier": multiplier,
                "noise": step.noise,
                "holds_for": "each upload" if step.noise == "each" else "the sum of the uploads",
                "neighbours": "one user's uploads are zeros",
                "rounds": settings.rounds,
                "delta": step.delta,
                "epsilon": spent,
                "accountant": "rdp",
            }
    return None


def _part(step: Any, settings: FamilyStudy) -> Channel:
    uploads = settings.participation.cohort or settings.data.users
    if isinstance(step, Quantise):
        return (largest_remainder if step.form == "largest_remainder" else uniform)(step.bits)
    if isinstance(step, ClipAndNoise):
        multiplier = _multiplier(step, settings.rounds)
        participants = float(uploads) if step.noise == "share" else 1.0
        return clip_and_noise(step.clip, multiplier, participants, noise=step.noise)
    if isinstance(step, SecureSum):
        return secure_sum(step.bits, uploads, step.largest)
    return delta()


def _multiplier(step: ClipAndNoise, rounds: int) -> float:
    """The multiplier, or the least one that has the epsilon; participation amplifies nothing."""
    if step.multiplier is not None:
        return step.multiplier
    assert step.epsilon is not None  # check_family.py
    return noise_multiplier(step.epsilon, rounds, delta=step.delta)
