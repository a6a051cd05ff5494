"""The vertical axis of a picture that has one row per policy."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.axes import Axes

from fedjax_kd.report.drawing import plain
from fedjax_kd.report.names import PROPOSED, policy_name


def name_rows(axes: Axes, policies: Sequence[str]) -> None:
    """Names rows 0, 1, … from the top after the policies; the proposed one's name is bold."""
    axes.set_ylim(len(policies) - 0.5, -0.5)
    axes.set_yticks(range(len(policies)), [plain(policy_name(policy)) for policy in policies])
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    proposed = plain(policy_name(PROPOSED))
    for label in axes.get_yticklabels():
        if label.get_text() == proposed:
            label.set_fontweight("bold")
