"""Pictures drawn by the server as SVG: lines of recent values, shares, QR codes. No scripts, no inline styles.

Colors come from the style sheet by class, so that they follow light and dark.
"""

from __future__ import annotations

from collections.abc import Sequence

import segno
from markupsafe import Markup, escape

WIDTH, HEIGHT, PAD = 240, 48, 3


def sparkline(values: Sequence[float], label: str) -> Markup:
    """A line of values from left to right over zero, with its last point; `label` says in words what it shows."""
    if len(values) < 2:
        return Markup("")
    top = max(values) or 1.0
    step = (WIDTH - 2 * PAD) / (len(values) - 1)
    points = [
        (round(PAD + step * number, 1), round(HEIGHT - PAD - (HEIGHT - 2 * PAD) * value / top, 1))
        for number, value in enumerate(values)
    ]
    line = " ".join(f"{x},{y}" for x, y in points)
    area = f"{PAD},{HEIGHT - PAD} {line} {points[-1][0]},{HEIGHT - PAD}"
    last_x, last_y = points[-1]
    return Markup(  # noqa: S704 - numbers of our own; the label is escaped
        f'<svg class="spark" viewBox="0 0 {WIDTH} {HEIGHT}" preserveAspectRatio="none" role="img" '
        f'aria-label="{escape(label)}"><polygon class="spark-area" points="{area}"/>'
        f'<polyline class="spark-line" points="{line}"/><path class="spark-dot" d="M{last_x} {last_y}h0"/>'
        "</svg>"
    )


def bar(part: float, whole: float, tone: str) -> Markup:
    """How much of something is left, from 0 to `whole`; the words beside it say the same. `tone` names its color."""
    share = min(1.0, max(0.0, part / whole)) if whole > 0 else 0.0
    return Markup(  # noqa: S704 - numbers of our own; the tone is escaped
        f'<svg class="bar tone-{escape(tone)}" viewBox="0 0 100 6" preserveAspectRatio="none" aria-hidden="true">'
        f'<rect class="bar-back" width="100" height="6"/>'
        f'<rect class="bar-part" width="{share * 100:.1f}" height="6"/></svg>'
    )


def qr_code(text: str, label: str) -> Markup:
    """A QR code as SVG on a white ground, readable in the dark scheme too."""
    code = segno.make(text, error="m", micro=False)
    width, height = code.symbol_size(border=4)
    drawn = code.svg_inline(border=4, omitsize=True, svgclass=None, lineclass=None)
    inner = drawn[drawn.index(">") + 1 : drawn.rindex("</svg>")]
    return Markup(  # noqa: S704 - drawn from modules; the label is escaped
        f'<svg class="qr" viewBox="0 0 {width} {height}" role="img" aria-label="{escape(label)}">'
        f'<rect width="{width}" height="{height}" fill="#fff"/>{inner}</svg>'
    )
