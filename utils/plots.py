"""One look for the book's figures: readable sizes, colours that colour-blind readers can tell apart.

Importing this module loads matplotlib and sets the style for the kernel.
"""

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib_inline.backend_inline import set_matplotlib_formats

# Okabe and Ito's palette, the order changed so that the first two also differ in grey.
BLUE, ORANGE, GREEN, PINK, SKY, RED, YELLOW = COLORS = (
    "#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#F0E442",
)  # fmt: skip
GREY = "#7F7F7F"

STYLE = {
    "figure.figsize": (7.0, 3.4),
    "figure.dpi": 110,
    "figure.constrained_layout.use": True,
    "font.size": 11,
    "axes.titlesize": 12,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.prop_cycle": plt.cycler(color=COLORS),
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.axisbelow": True,
    "grid.color": "#DDDDDD",
    "legend.frameon": False,
    "lines.linewidth": 2,
    "lines.markersize": 6,
}
plt.rcParams.update(STYLE)
set_matplotlib_formats("png")

Interval = tuple[float, float]


def compare(
    shares: Mapping[str, float],
    *,
    title: str,
    intervals: Mapping[str, Interval] | None = None,
    notes: Mapping[str, str] | None = None,
    colors: Mapping[str, str] | None = None,
) -> Axes:
    """Horizontal bars of shares between 0 and 1, the first on top.

    Args:
        shares: name to share.
        intervals: name to (low, high), drawn as whiskers.
        notes: name to what stands behind the bar, such as "31 of 60"; the share itself otherwise.
        colors: name to colour, for bars that should stand out.
    """
    names = list(shares)
    figure, axes = plt.subplots(figsize=(7.0, 0.75 + 0.45 * len(names)))
    paint = [(colors or {}).get(name, BLUE) for name in names]
    axes.barh(names, list(shares.values()), color=paint, height=0.62)
    for row, name in enumerate(names):
        low, high = (intervals or {}).get(name, (shares[name], shares[name]))
        if intervals and name in intervals:
            axes.plot(
                [low, high], [row, row], color="black", linewidth=1.2, marker="|", markersize=7
            )
        note = (notes or {}).get(name, f"{shares[name]:.0%}")
        axes.text(max(high, shares[name]) + 0.015, row, note, va="center")
    axes.set(title=title, xlim=(0, 1.12), xticks=[0, 0.25, 0.5, 0.75, 1])
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
    axes.grid(axis="y", visible=False)
    axes.grid(axis="x", visible=True)
    axes.tick_params(axis="y", length=0)
    axes.invert_yaxis()
    return axes


def lines(
    x: Sequence[float],
    series: Mapping[str, Sequence[float]],
    *,
    title: str,
    xlabel: str,
    intervals: Mapping[str, Sequence[Interval]] | None = None,
) -> Axes:
    """Shares against a setting, one line for each name, labelled at its end; intervals as bands."""
    _, axes = plt.subplots()
    for (name, values), color in zip(series.items(), COLORS, strict=False):
        axes.plot(x, values, marker="o", color=color)
        if intervals and name in intervals:
            low, high = zip(*intervals[name], strict=True)
            axes.fill_between(x, low, high, color=color, alpha=0.15, linewidth=0)
        axes.annotate(
            f" {name}", (x[-1], values[-1]), color=color, va="center", annotation_clip=False
        )
    axes.set(title=title, xlabel=xlabel, ylim=(0, 1), xticks=list(x))
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
    return axes
