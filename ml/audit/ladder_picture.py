"""The picture of protocol ladders: AUC of every rung, one line per market."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import vl_convert

_COLOURS = ("#2458c6", "#c2571a", "#2f8f5b", "#8a4fb0", "#68707a", "#b0892f")
_INK, _MUTED, _GRID = "#1b1f24", "#68707a", "#dfe3e8"


def ladder_picture(rows: Sequence[Mapping[str, Any]]) -> str:
    """SVG of the ladders.

    Args:
        rows: market, rung (1 is the worst), name and auc.
    """
    ordered = sorted(rows, key=lambda r: r["rung"])
    names = list(dict.fromkeys(r["name"] for r in ordered))
    markets = list(dict.fromkeys(r["market"] for r in rows))
    y = {
        "field": "name",
        "type": "nominal",
        "sort": names,
        "title": None,
        "axis": {"domain": False, "ticks": False, "labelFontSize": 13, "labelColor": _INK},
    }
    x = {
        "field": "auc",
        "type": "quantitative",
        "title": "ROC-AUC over all test rows",
        "scale": {"zero": False, "nice": True},
        "axis": {"format": ".2f", "tickCount": 6},
    }
    colour = {
        "field": "market",
        "type": "nominal",
        "scale": {"domain": markets, "range": list(_COLOURS[: len(markets)])},
        "legend": {"title": None, "orient": "top", "labelFontSize": 13},
    }
    data = {"values": [dict(row) for row in ordered]}
    spec = {
        "width": 560,
        "height": 46 * len(names),
        "data": data,
        "layer": [
            {
                "mark": {"type": "rule", "color": _MUTED, "strokeDash": [3, 3]},
                "data": {"values": [{"at": 0.5}]},
                "encoding": {"x": {"field": "at", "type": "quantitative"}},
            },
            {
                "mark": {"type": "line", "strokeWidth": 1.5, "opacity": 0.5},
                "encoding": {
                    "x": x,
                    "y": y,
                    "color": colour,
                    "order": {"field": "rung", "type": "quantitative"},
                },
            },
            {
                "mark": {"type": "point", "filled": True, "size": 80, "opacity": 1},
                "encoding": {"x": x, "y": y, "color": colour},
            },
        ],
        "config": {
            "background": "white",
            "font": "sans-serif",
            # room for a viewer's font that is wider than the one measured with
            "padding": {"left": 32, "right": 12, "top": 12, "bottom": 12},
            "view": {"stroke": None},
            "axis": {
                "labelColor": _MUTED,
                "titleColor": _MUTED,
                "titleFontWeight": "normal",
                "gridColor": _GRID,
                "domainColor": _GRID,
                "tickColor": _GRID,
            },
            "legend": {
                "labelColor": _INK,
                "symbolSize": 110,
                "symbolStrokeWidth": 0,
                "columnPadding": 28,
            },
        },
    }
    svg: str = vl_convert.vegalite_to_svg(spec)
    return svg
