"""The report page: complete, without network, and readable in a real browser."""

from __future__ import annotations

import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import pytest
from built_warehouse import Warehouse

from ml import charts
from ml.errors import AsxwError

pytestmark = pytest.mark.slow

BROWSER = next(
    (b for b in ("chromium", "chromium-browser", "google-chrome") if shutil.which(b)), None
)
# Written into the page by the test alone: sizes and marks as the browser has laid them out.
PROBE = """
<script>
addEventListener('load', () => {
  const charts = [...document.querySelectorAll('figure')].map(f => {
    const shown = [...f.querySelectorAll('svg')].filter(s => s.getBoundingClientRect().width > 0);
    const box = shown.length ? shown[0].getBoundingClientRect() : {width: 0, height: 0};
    const sizes = shown.length ? [...shown[0].querySelectorAll('text')].map(
      t => { const m = t.getScreenCTM();
        return parseFloat(getComputedStyle(t).fontSize) * Math.hypot(m.a, m.b); }) : [];
    const marks = shown.length
      ? shown[0].querySelectorAll('[class*="mark-"] path, [class*="mark-"] line').length : 0;
    return [shown.length, Math.round(box.width), Math.round(box.height), marks,
            Math.min(...sizes).toFixed(1)].join(' ');
  });
  const page = document.documentElement;
  document.body.setAttribute('data-width', page.scrollWidth + ' ' + page.clientWidth);
  document.body.setAttribute('data-ink', getComputedStyle(document.body).color);
  document.body.setAttribute('data-charts', charts.join(';'));
  document.body.setAttribute('data-errors', window.failures || 0);
});
window.failures = 0;
addEventListener('error', () => { window.failures += 1; }, true);
</script>
"""


# an audit of the run's own commit, one of another that found something, and one of another run
AUDITS = """
insert into marts.fct_audits by name
select
    'a' || n as audit_id, layer, 'duckdb' as target, 'asx' as market, whose as run_id,
    case when n = 1 then (select git_commit from ml.runs) else 'feedbee' || repeat('0', 33) end
        as git_commit,
    timestamp '2026-06-05 10:00:00' as finished_at, n = 1 as passed, 1234 as checked,
    n - 1 as differences, true as is_newest
from (values (1, 'static', null), (2, 'replay', null), (3, 'ladder', 'elsewhere'))
    as given (n, layer, whose)
"""

# twelve shares of a score, three reasons each
REASONS = """
insert into marts.fct_signal_reasons by name
select
    (select run_id from ml.runs) as run_id, 'SH' || lpad(i::text, 2, '0') as symbol,
    date '2026-06-04' as trade_date, 'regressor' as head, place, 'feature' as part,
    'vol_60' as feature, 'reason ' || place || ': lowers the expected return' as reason,
    'STRONG_BUY' as signal, 0.625 as probability_up, (12 - i) / 100.0 as expected_return,
    0.0 as contribution, true as is_latest
from range(12) as shares (i), range(1, 4) as places (place)
"""


@pytest.fixture(scope="module")
def page(built_market: Warehouse) -> str:
    path = built_market.folder / "report.html"
    built_market.execute(AUDITS)
    built_market.execute(REASONS)
    try:
        done = built_market.run("asxw", "report", "--out", str(path))
    finally:
        built_market.execute("delete from marts.fct_audits where audit_id in ('a1', 'a2', 'a3')")
        built_market.execute("delete from marts.fct_signal_reasons where symbol like 'SH%'")
    assert str(path) in done.stdout
    return path.read_text(encoding="utf-8")


class _Document(HTMLParser):
    """Tags with their attributes, and that every one that opens is closed."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in ("meta", "link", "br", "hr", "img"):
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_the_page_is_whole_and_needs_no_network(page, built_market):
    document = _Document()
    document.feed(page)
    assert not document.open
    names = {tag for tag, _ in document.tags}
    assert "script" not in names and "img" not in names
    links = [a[k] for _, a in document.tags for k in ("href", "src", "xlink:href") if a.get(k)]
    assert all(link.startswith(("#", "data:")) for link in links)
    assert not re.search(r"url\((?!#)", page) and "@import" not in page
    drawn = [a for tag, a in document.tags if tag == "svg"]
    assert len(drawn) >= 20 and all(a["role"] == "img" and a["aria-label"] for a in drawn)
    run_id = built_market.frame("select run_id from ml.runs").run_id[0]
    checksum = built_market.frame("select panel_checksum from ml.runs").panel_checksum[0]
    assert run_id in page and checksum in page
    assert len(page.encode()) < 3_000_000


def test_the_headline_is_the_runs_numbers(page, built_market):
    # whose prices these are, whatever the market in dbt_project.yml
    assert "invented sample market, run direction" in page
    row = built_market.frame(
        "select * from ml.metrics where predictor = 'lightgbm' and fold = 0 "
        "and segment = 'all' and metric = 'roc_auc_session'"
    ).iloc[0]
    assert f"{row.value:.3f} [{row.ci_low:.3f}, {row.ci_high:.3f}]" in page
    difference = built_market.frame(
        "select m.* from ml.metrics as m where m.fold = 0 and m.segment = 'all' "
        "and m.metric = 'roc_auc_session' and m.predictor = 'lightgbm - ' || ("
        "select predictor from ml.metrics where fold = 0 and segment = 'all' "
        "and metric = 'roc_auc_session' and predictor not in ('lightgbm', 'base_rate') "
        "and predictor not like 'lightgbm -%' order by value desc limit 1)"
    ).iloc[0]
    text = f"{difference.value:+.3f} [{difference.ci_low:+.3f}, {difference.ci_high:+.3f}]"
    assert f"difference {text}" in page
    wanted = "the interval holds zero: no advantage is shown"
    if difference.ci_low > 0:
        wanted = "the model is ahead"
    elif difference.ci_high < 0:
        wanted = "the model is behind"
    assert wanted in page
    failed = built_market.frame("select count(*) as n from ml.gates where not passed").n[0]
    assert page.count(">failed<") + page.count(">ALARM<") == failed


def rows_of(page: str, first_cell: str) -> list[str]:
    """Text of the table rows that begin with a cell."""
    found = re.findall(r"<tr>(.*?)</tr>", page, re.DOTALL)
    texts = [" ".join(re.sub(r"<[^>]+>", " ", row).split()) for row in found]
    return [text for text in texts if text.startswith(first_cell)]


def test_importance_comes_with_its_stability(page, built_market):
    rows = built_market.frame(
        "select * from marts.fct_feature_importance where head = 'classifier'"
    ).set_index(["measure", "importance_rank"])
    first = rows.loc["gain", 1]
    lost = rows.loc["permutation"].set_index("feature").loc[first.feature]
    (told,) = rows_of(page, first.feature + " ")
    folds = round(first.share_of_folds_in_top_ten * first.n_folds)
    assert told.startswith(f"{first.feature} {first.family} {100 * first.mean_importance:.1f} %")
    assert f"{folds} of 2 folds" in told and f"{lost.mean_importance:+.4f}" in told
    gain, loss = (rows.loc[m, 1].fold_rank_correlation for m in ("gain", "permutation"))
    assert f"correlate at {gain:.2f} by gain and at {loss:.2f} by AUC lost" in page


def test_luck_and_audits_stand_on_the_page(page, built_market):
    luck = built_market.frame("select * from marts.fct_overfitting where is_newest").iloc[0]
    assert "How much of it may be luck?" in page and f">{luck.verdict}<" in page
    assert f'<div class="value">{100 * luck.deflated_sharpe:.0f} %</div>' in page
    assert rows_of(page, "static") == ["static asx, duckdb passed 1,234 0 2026-06-05 same commit"]
    assert rows_of(page, "replay") == [
        "replay asx, duckdb FAILED 1,234 1 2026-06-05 commit feedbee"
    ]
    assert not rows_of(page, "ladder")  # it is about another run


def test_the_latest_scores_come_with_their_reasons(page):
    (best,) = rows_of(page, "SH00")
    assert best == "SH00 strong buy 12.0 % 62.5 % reason 1: lowers; reason 2: lowers"
    shown = [n for n in range(12) if rows_of(page, f"SH{n:02d}")]
    assert shown == [0, 1, 2, 3, 4, 7, 8, 9, 10, 11]


def test_the_model_card_says_what_the_run_reached(built_market, tmp_path):
    path = tmp_path / "card.md"
    done = built_market.run("asxw", "model-card", "--out", str(path))
    card = path.read_text(encoding="utf-8")
    run = built_market.frame("select * from ml.runs").iloc[0]
    assert run.run_id in done.stdout and run.run_id in card and run.panel_checksum[:16] in card
    assert "the sample market, which is invented" in card and "No audit is on record" in card
    auc = built_market.frame(
        "select * from ml.metrics where predictor = 'lightgbm' and fold = 0 "
        "and segment = 'all' and metric = 'roc_auc_session'"
    ).iloc[0]
    text = f"| AUC per session | {auc.value:.3f} [{auc.ci_low:.3f}, {auc.ci_high:.3f}] |"
    assert text in card
    gates = built_market.frame("select * from ml.gates where level != 'alarm'")
    assert f"{gates.passed.sum()} of {len(gates)} promises are kept" in card
    assert card.count("| failed |") == (~gates.passed).sum()
    # every table has a head, a rule and rows of as many cells
    for block in re.findall(r"(?:^\|.*\n)+", card, re.MULTILINE):
        lines = block.splitlines()
        assert len(lines) >= 3 and set(lines[1]) == {"|", "-"}
        assert len({line.count("|") for line in lines}) == 1


@pytest.mark.skipif(BROWSER is None, reason="no Chromium on this machine")
@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("dark", [False, True])
def test_a_browser_shows_every_chart(page, tmp_path, width, dark):
    (tmp_path / "r.html").write_text(page.replace("</body>", f"{PROBE}</body>"), encoding="utf-8")
    # a frame, because a browser's own window cannot be as narrow as a telephone
    (tmp_path / "frame.html").write_text(
        f'<iframe id="f" src="r.html" style="width:{width}px;height:900px;border:0"></iframe>'
        "<script>addEventListener('load', () => setTimeout(() => { const b = "
        "document.getElementById('f').contentDocument.body; for (const k of "
        "['width','ink','charts','errors']) document.body.setAttribute('data-' + k, "
        "b.getAttribute('data-' + k)); }, 300));</script>",
        encoding="utf-8",
    )
    command = [
        BROWSER, "--headless=new", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr",
        "--allow-file-access-from-files", "--virtual-time-budget=5000", "--window-size=1400,1000",
        f"--user-data-dir={tmp_path / 'profile'}",
    ]  # fmt: skip
    if dark:
        command.append("--blink-settings=preferredColorScheme=0")
    command += ["--dump-dom", (tmp_path / "frame.html").as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    found = dict(re.findall(r'data-(width|ink|charts|errors)="([^"]*)"', done.stdout))
    assert found["errors"] == "0" and "CONSOLE" not in done.stderr
    scroll, client = map(int, found["width"].split())
    assert scroll <= client, "the page is wider than the screen"
    light = int(re.findall(r"\d+", found["ink"])[0]) > 127
    assert light == dark
    drawn = [chart.split() for chart in found["charts"].split(";")]
    assert len(drawn) >= 10
    for shown, chart_width, height, marks, smallest in drawn:
        assert int(shown) == 1 and int(marks) > 0
        assert 200 < int(chart_width) <= width and int(height) > 80
        assert float(smallest) >= 9


def test_a_run_whose_marts_are_not_built_is_refused(built_market):
    built_market.execute("insert into ml.runs select * replace ('other' as run_id) from ml.runs")
    try:
        done = built_market.run("asxw", "report", "--run", "other", check=False)
        assert done.returncode == 1 and "dbt build --select" in done.stderr
        unknown = built_market.run("asxw", "report", "--run", "nonsense", check=False)
        assert "There is no run nonsense" in unknown.stderr
    finally:
        built_market.execute("delete from ml.runs where run_id = 'other'")


def test_a_chart_without_marks_is_an_error():
    with pytest.raises(AsxwError, match="no marks: nothing here"):
        charts.draw({"mark": "line", "data": {"values": []}, "encoding": {}}, "nothing here")


def test_every_colour_of_a_chart_has_a_place_in_the_theme():
    """A colour the style sheet does not know would be unreadable in one of the themes."""
    rows = [{"name": str(n), "value": n / 10, "low": 0.0, "high": n / 5} for n in range(1, 4)]
    svg = charts.draw(charts.bars(rows, charts.WIDE, "x", "y"), "bars")
    used = set(re.findall(r'(?:fill|stroke)="(#[0-9a-f]{3,6})"', svg))
    assert used and used <= set(charts.THEME)
    style = (Path(charts.__file__).parent / "report.html.j2").read_text(encoding="utf-8")
    for name in charts.THEME.values():
        assert style.count(f"--{name}:") >= 2, "light and dark"
