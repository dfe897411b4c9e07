"""Charts of the report: Vega-Lite specifications drawn to SVG that follows the page's colours.

Every colour of a chart is one of a few fixed values, which the page's style sheet maps to the
colours of the light or the dark theme, so that one drawing serves both and print.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from html import escape
from typing import Any

import vl_convert

from ml.errors import AsxwError

Rows = Sequence[Mapping[str, Any]]
Spec = dict[str, Any]

INK, MUTED, GRID = "#1b1f24", "#68707a", "#dfe3e8"
ONE, TWO, THREE = "#2458c6", "#c2571a", "#8a93a0"
THEME = {INK: "ink", MUTED: "muted", GRID: "grid", ONE: "one", TWO: "two", THREE: "three"}
WIDE, NARROW = 520, 330

_MARKS = re.compile(r'class="mark-(?:rect|rule|line|symbol)[^"]*"[^>]*><(?:path|line) [^>]*d="M')

_CONFIG: Spec = {
    "background": None,
    "font": "sans-serif",
    # room for fonts wider than the one it was measured with
    "padding": {"left": 14, "right": 14, "top": 4, "bottom": 4},
    "view": {"stroke": None},
    "axis": {
        "labelColor": MUTED,
        "titleColor": MUTED,
        "titleFontWeight": "normal",
        "titleFontSize": 12,
        "labelFontSize": 12,
        "gridColor": GRID,
        "domainColor": GRID,
        "tickColor": GRID,
        "labelLimit": 220,
    },
    "axisX": {"labelOverlap": "parity", "labelSeparation": 6, "labelFlush": False},
    "legend": {
        "labelColor": INK,
        "titleColor": MUTED,
        "labelFontSize": 12,
        "orient": "top",
        "title": None,
        "symbolStrokeWidth": 3,
        "columnPadding": 18,
    },
    "mark": {"color": ONE},
    "rule": {"color": ONE},
    "text": {"color": INK, "fontSize": 12},
    "header": {"labelColor": INK, "title": None, "labelFontSize": 12, "labelFontWeight": "bold"},
}


def draw(spec: Spec, label: str) -> str:
    """The specification as an SVG element with a text for screen readers.

    Raises:
        AsxwError: there is nothing to draw.
    """
    svg: str = vl_convert.vegalite_to_svg({**spec, "config": _CONFIG})
    if not _MARKS.search(svg):
        raise AsxwError(f"The chart has no marks: {label}")
    start = svg.index("<svg")
    head = f'<svg role="img" aria-label="{escape(label, quote=True)}"'
    return head + svg[start + len("<svg") :]


def both_widths(make: Callable[[int], Spec], label: str) -> str:
    """One chart for wide and one for narrow screens; the page shows the one that fits."""
    wide, narrow = draw(make(WIDE), label), draw(make(NARROW), label)
    return f'<div class="wide">{wide}</div><div class="narrow">{narrow}</div>'


def _colours(names: Sequence[str]) -> Spec:
    return {"domain": list(names), "range": [ONE, TWO, THREE][: len(names)]}


def _inner(width: int, axis: int) -> int:
    """Width of the plotting area where the axis of names needs so much."""
    return max(120, width - axis - 40)


def intervals(rows: Rows, width: int, title: str, reference: float, format_: str = ".3f") -> Spec:
    """Points with intervals, one line per `name`, coloured by `group`, panels by `panel`.

    Args:
        rows: name, group, panel, value, low, high (low and high may be None).
        width: of the drawing.
        title: of the axis.
        reference: where a line means "nothing".
        format_: of the numbers at the axis.
    """
    groups = list(dict.fromkeys(r["group"] for r in rows))
    names = list(dict.fromkeys(r["name"] for r in rows))
    known = [r for r in rows if r["low"] is not None]
    shared: Spec = {
        "y": {
            "field": "name",
            "type": "nominal",
            "sort": names,
            "title": None,
            "axis": {"domain": False, "ticks": False, "labelLimit": 130, "labelColor": INK},
        },
        "yOffset": {"field": "group", "type": "nominal", "sort": groups}
        if len(groups) > 1
        else {"value": 0},
        "color": {
            "field": "group",
            "type": "nominal",
            "scale": _colours(groups),
            # a long legend beside a narrow plot would make all of the drawing small
            "legend": {"columns": 2 if width < WIDE else 0} if len(groups) > 1 else None,
        },
    }
    if len(groups) == 1:
        del shared["yOffset"]
    axis: Spec = {"title": title, "format": format_, "tickCount": 3 if width < WIDE else 5}
    quantitative: Spec = {"type": "quantitative", "scale": {"zero": False}, "axis": axis}
    layers: list[Spec] = [
        {
            "mark": {"type": "rule", "color": MUTED, "strokeDash": [3, 3]},
            "data": {"values": [{"at": reference}]},
            "encoding": {"x": {"field": "at", **quantitative}},
        },
        {
            "mark": {"type": "rule", "strokeWidth": 2},
            "data": {"values": list(known)},
            "encoding": {
                **shared,
                "x": {"field": "low", **quantitative},
                "x2": {"field": "high"},
            },
        },
        {
            "mark": {"type": "point", "filled": True, "size": 60, "opacity": 1},
            "data": {"values": list(rows)},
            "encoding": {**shared, "x": {"field": "value", **quantitative}},
        },
    ]
    step = 26 if len(groups) == 1 else 14
    return {"width": _inner(width, 150), "height": {"step": step}, "layer": layers}


def lines(rows: Rows, width: int, title: str, *, reference: float | None, format_: str) -> Spec:
    """Lines over time by `series`; fields day (ISO), value, series."""
    series = list(dict.fromkeys(r["series"] for r in rows))
    axis: Spec = {"title": title, "format": format_, "tickCount": 5}
    x: Spec = {
        "field": "day",
        "type": "temporal",
        "title": None,
        "axis": {"tickCount": 4 if width < WIDE else 7, "grid": False},
    }
    layers: list[Spec] = []
    if reference is not None:
        layers.append(
            {
                "mark": {"type": "rule", "color": MUTED, "strokeDash": [3, 3]},
                "data": {"values": [{"at": reference}]},
                "encoding": {"y": {"field": "at", "type": "quantitative"}},
            }
        )
    layers.append(
        {
            "mark": {"type": "line", "strokeWidth": 1.8},
            "data": {"values": list(rows)},
            "encoding": {
                "x": x,
                "y": {
                    "field": "value",
                    "type": "quantitative",
                    "scale": {"zero": False},
                    "axis": axis,
                },
                "color": {
                    "field": "series",
                    "type": "nominal",
                    "scale": _colours(series),
                    "legend": {} if len(series) > 1 else None,
                },
            },
        }
    )
    return {"width": _inner(width, 56), "height": 220, "layer": layers}


def bars(rows: Rows, width: int, x_title: str, y_title: str) -> Spec:
    """Bars with error bars; fields name (ordered), value, low, high."""
    x: Spec = {
        "field": "name",
        "type": "ordinal",
        "sort": None,
        "title": x_title,
        "axis": {"labelAngle": 0, "ticks": False},
    }
    y: Spec = {"type": "quantitative", "axis": {"title": y_title, "format": ".1%", "tickCount": 5}}
    return {
        "width": _inner(width, 56),
        "height": 220,
        "data": {"values": list(rows)},
        "encoding": {"x": x},
        "layer": [
            {"mark": {"type": "bar", "color": ONE}, "encoding": {"y": {"field": "value", **y}}},
            {
                "mark": {"type": "rule", "color": INK, "strokeWidth": 1.5},
                "transform": [{"filter": "isValid(datum.low)"}],
                "encoding": {"y": {"field": "low", **y}, "y2": {"field": "high"}},
            },
        ],
    }


def reliability(rows: Rows, width: int) -> Spec:
    """Observed against predicted probability; fields predicted, observed, low, high."""
    ends = [v for r in rows for v in (r["predicted"], r["observed"], r["low"], r["high"]) if v]
    low, high = min(ends) - 0.01, max(ends) + 0.01
    scale = {"domain": [low, high], "nice": False}
    side = _inner(width, 90)

    def axis(title: str) -> Spec:
        return {"title": title, "format": ".0%", "tickCount": 5}

    x: Spec = {"type": "quantitative", "scale": scale, "axis": axis("predicted probability")}
    y: Spec = {"type": "quantitative", "scale": scale, "axis": axis("share that rose")}
    return {
        "width": side,
        "height": min(side, 300),
        "layer": [
            {
                "mark": {"type": "line", "color": MUTED, "strokeDash": [3, 3]},
                "data": {"values": [{"a": low}, {"a": high}]},
                "encoding": {"x": {"field": "a", **x}, "y": {"field": "a", **y}},
            },
            {
                "mark": {"type": "rule", "color": ONE},
                "data": {"values": [r for r in rows if r["low"] is not None]},
                "encoding": {
                    "x": {"field": "predicted", **x},
                    "y": {"field": "low", **y},
                    "y2": {"field": "high"},
                },
            },
            {
                "mark": {"type": "line", "color": ONE, "point": {"color": ONE, "size": 50}},
                "data": {"values": list(rows)},
                "encoding": {"x": {"field": "predicted", **x}, "y": {"field": "observed", **y}},
            },
        ],
    }


def heat_map(rows: Rows, width: int) -> Spec:
    """Coverage by feature and month, darker is more; fields feature, from, to (ISO), value.

    Neighbouring months of the same value come as one row.
    """
    features = list(dict.fromkeys(r["feature"] for r in rows))
    return {
        "width": _inner(width, 140),
        "height": {"step": 13},
        "data": {"values": list(rows)},
        "mark": {"type": "rect", "color": ONE},
        "encoding": {
            "x": {
                "field": "from",
                "type": "temporal",
                "title": None,
                "axis": {"tickCount": 4 if width < WIDE else 7, "grid": False},
            },
            "x2": {"field": "to"},
            "y": {
                "field": "feature",
                "type": "nominal",
                "sort": features,
                "title": None,
                "axis": {"labelFontSize": 10, "domain": False, "ticks": False, "labelLimit": 130},
            },
            "opacity": {
                "field": "value",
                "type": "quantitative",
                "scale": {"domain": [0, 1], "range": [0.04, 0.9]},
                "legend": {"format": ".0%", "values": [0, 0.5, 1]},
            },
        },
    }
