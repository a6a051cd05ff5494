"""What is raised when training is not finite."""

from collections.abc import Mapping


class Diverged(FloatingPointError):
    """Training is not finite at some points.

    Attributes:
        reasons: what happened first at each of them, by their place among the points.
    """

    def __init__(self, reasons: Mapping[int, str]):
        super().__init__(next(iter(reasons.values())))
        self.reasons = dict(reasons)
