"""An invented Australian equity market with a known answer, in the shape of the raw contract.

`generate(SampleParameters(...))` returns every raw table as an Arrow table, the events planted in
them and the latent state that drives returns. Nothing is read from disk, the network or the clock:
the same parameters give the same bytes. docs/sample_market.md describes the market.

Matrices are companies x sessions (N x T). A company is one row whatever codes it trades under.
Each random stream has a name of its own and is drawn company by company, so a larger market begins
with the same companies, and a new stream leaves the others as they are.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta
from typing import Any, NamedTuple

import exchange_calendars
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from ml.contract import ARROW_TYPES
from ml.errors import AsxwError

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]
DayArray = npt.NDArray[np.datetime64]

DAY = np.timedelta64(1, "D")
MINUTE = np.timedelta64(60_000_000, "us")
SECOND = np.timedelta64(1_000_000, "us")
DECISION_TIME = 16 * 60 + 15
MAX_SYMBOLS = 10_000
MAX_SESSIONS = 6_000
SLOTS = 80

# A session's drift, in units of the company's volatility, per unit of the latent state. Over 21
# sessions it is up to 0.4 of the return's standard deviation (the state decays meanwhile), worth a
# measured AUC of 0.65 to somebody who sees the state. A model sees only its traces.
PLANTED_DRIFT = 0.4 / np.sqrt(21)
LATENT_HALF_LIFE = 42

# The directory begins after this share of the sessions: what happens before leaves no evidence.
DIRECTORY_STARTS = 0.4

# Organic moves stay below the factor that makes a price break, so breaks are the planted ones.
MAX_LOG_RETURN = 0.45

SECTORS = (
    *("Materials", "Energy", "Software & Services", "Capital Goods", "Financial Services"),
    *("Pharmaceuticals, Biotechnology & Life Sciences", "Health Care Equipment & Services"),
    *("Commercial & Professional Services", "Equity Real Estate Investment Trusts (REITs)"),
    *("Media & Entertainment", "Consumer Services", "Food, Beverage & Tobacco", "Banks"),
    *("Technology Hardware & Equipment", "Utilities", "Transportation", "Insurance"),
    *("Consumer Discretionary Distribution & Retail", "Telecommunication Services"),
    *("Consumer Durables & Apparel", "Automobiles & Components"),
    *("Consumer Staples Distribution & Retail", "Real Estate Management & Development"),
    "Household & Personal Products",
)
SECTOR_WEIGHTS = (34, 7, 8, 5, 6, 5, 4, 4, 3, 3, 3, 3, 1, 2, 1, 1, 1, 2, 1, 1, 1, 1, 2, 1)
NO_SECTOR = "Not Applic"


@dataclass(frozen=True)
class SampleParameters:
    """Size, seed and kind of the market.

    Attributes:
        symbols: companies and funds, 5 to 10,000. A renamed company has further codes, and two
            companies may share one.
        sessions: sessions of the ASX calendar, 30 to 6,000, the last on or before `end`.
        seed: any non-negative integer.
        end: last day of the market; nothing known later is in any table.
        null: no return is predictable: no planted drift, no volatility drag, no price ticks.
    """

    symbols: int = 160
    sessions: int = 756
    seed: int = 7
    end: date = date(2026, 6, 4)
    null: bool = False

    def __post_init__(self) -> None:
        for name, value, low, high in (
            ("symbols", self.symbols, 5, MAX_SYMBOLS),
            ("sessions", self.sessions, 30, MAX_SESSIONS),
            ("seed", self.seed, 0, 2**63),
            ("year of end", self.end.year, 2005, 2100),
        ):
            if not low <= value <= high:
                raise AsxwError(f"sample-market: {name} is {value}, must be {low} to {high}.")

    def rng(self, stream: str) -> np.random.Generator:
        """The random stream of one purpose."""
        key = zlib.crc32(stream.encode())
        return np.random.default_rng(np.random.SeedSequence(self.seed, spawn_key=(key,)))


@dataclass(frozen=True)
class SampleMarket:
    """What `generate` returns.

    Attributes:
        tables: the raw tables by name, columns of the contract without source and loaded_at.
        truth: the planted events: symbol, event, event_date, end_date, ratio, evidence, verdict.
        latent: symbol, trade_date, latent: the state at each traded row of an equity, standard
            normal across companies. It drives the returns from the following session on.
    """

    tables: dict[str, pa.Table]
    truth: pa.Table
    latent: pa.Table


class Event(NamedTuple):
    """One planted event: session indices `start` and `end`, ratio of new to old shares or price."""

    company: int
    name: str
    start: int
    end: int
    ratio: float
    evidence: str
    verdict: str


@dataclass
class _Calendar:
    """Sessions (T days), what the vendor lacks, and the first session with a directory."""

    days: DayArray
    missing: IntArray
    thin: IntArray
    directory_from: int

    def session_before(self, days: DayArray) -> IntArray:
        """Index of the last session strictly before each day, -1 where there is none."""
        return np.searchsorted(self.days, days.astype("datetime64[D]")) - 1

    def session_until(self, days: DayArray) -> IntArray:
        """Index of the last session on or before each day, -1 where there is none."""
        return np.searchsorted(self.days, days.astype("datetime64[D]"), side="right") - 1


@dataclass
class _Companies:
    """Fixed traits of the N companies; `first` and `last` are the sessions they are listed."""

    kind: npt.NDArray[np.str_]
    sector: IntArray
    cap: FloatArray
    price: FloatArray
    beta: FloatArray
    vol: FloatArray
    turnover: FloatArray
    quality: FloatArray
    div_yield: FloatArray
    carried: BoolArray
    described: BoolArray
    first: IntArray
    last: IntArray
    names: list[str]
    codes: list[str] = field(default_factory=list)

    @property
    def equity(self) -> BoolArray:
        """Companies, not funds."""
        return ~np.isin(self.kind, ("etf", "fund"))


@dataclass
class _Plan:
    """The planted events and the codes (N x T indices into `_Companies.codes`) they lead to."""

    events: list[Event]
    reclassified: dict[int, tuple[int, int]]
    renamed: list[tuple[int, int, int]]
    code: IntArray
    directory_code: IntArray

    def of(self, *names: str) -> list[Event]:
        """Events of these names, in planting order."""
        return [e for e in self.events if e.name in names]


@dataclass
class _Prices:
    """Quotes as traded (N x T), shares on issue, and which cells are traded, listed, suspended."""

    latent: FloatArray
    log_return: FloatArray
    open: FloatArray
    high: FloatArray
    low: FloatArray
    close: FloatArray
    last_close: FloatArray
    volume: FloatArray
    shares: FloatArray
    traded: BoolArray
    listed: BoolArray
    suspended: BoolArray


def generate(parameters: SampleParameters) -> SampleMarket:
    """The whole market.

    Raises:
        AsxwError: the calendar does not reach back far enough.
    """
    calendar = _calendar(parameters)
    companies = _companies(parameters, calendar)
    plan = _plan(parameters, calendar, companies)
    prices = _prices(parameters, companies, plan)
    tables = {
        "prices": _prices_table(parameters, calendar, companies, plan, prices),
        "corporate_actions": _corporate_actions(parameters, calendar, companies, plan, prices),
        "securities": _securities(calendar, companies, plan),
        "symbol_changes": _symbol_changes(calendar, companies, plan),
        "directory": _directory(parameters, calendar, companies, plan, prices),
        "fundamentals": _fundamentals(parameters, calendar, companies, plan, prices),
        "macro": _macro(parameters, calendar),
        "announcements": _announcements(parameters, calendar, companies, plan),
        "short_positions": _short_positions(parameters, calendar, companies, plan, prices),
        "index_levels": _index_levels(parameters, calendar, companies, prices),
    }
    return SampleMarket(
        tables=tables,
        truth=_truth(calendar, companies, plan),
        latent=_latent_table(calendar, companies, plan, prices),
    )


# --- Arrow and time -------------------------------------------------------------------------------


def _table(**columns: tuple[str, Any]) -> pa.Table:
    """Columns given as (contract type, values); values may be an Arrow array already."""
    arrays = {}
    for name, (kind, values) in columns.items():
        is_arrow = isinstance(values, pa.Array | pa.ChunkedArray)
        arrays[name] = values if is_arrow else pa.array(values, type=ARROW_TYPES[kind])
    return pa.table(
        arrays, schema=pa.schema([(n, ARROW_TYPES[kind]) for n, (kind, _) in columns.items()])
    )


def _text(labels: Sequence[str | None], index: IntArray) -> pa.Array:
    """`labels[index]` as an Arrow text column, without a Python object per row."""
    codes = pa.array(index.astype(np.int32))
    return pa.DictionaryArray.from_arrays(codes, pa.array(labels, pa.string())).cast(pa.string())


def _nullable(values: FloatArray, unknown: BoolArray) -> pa.Array:
    """Numbers that are NULL where unknown; a NaN elsewhere stays a NaN."""
    return pa.array(values, type=pa.float64(), mask=unknown)


def _at(days: DayArray, minutes: Any) -> DayArray:
    """Timestamps (microseconds) of minutes after midnight on each day."""
    offset = np.asarray(minutes, dtype="int64") * MINUTE
    return np.asarray(days.astype("datetime64[us]") + offset, dtype="datetime64[us]")


def _end_of_market(calendar: _Calendar) -> np.datetime64:
    return np.datetime64(calendar.days[-1] + DAY, "us")


def _calendar_days(first: np.datetime64, last: np.datetime64) -> DayArray:
    return np.arange(first, last + DAY, dtype="datetime64[D]")


def _is_weekend(days: DayArray) -> BoolArray:
    # 1970-01-01 was a Thursday
    return np.asarray((days.astype("datetime64[D]").astype("int64") + 3) % 7 >= 5)


def _persistent(shocks: FloatArray, phi: float) -> FloatArray:
    """First-order autoregression along the last axis, scaled to the variance of the shocks."""
    path = np.empty_like(shocks)
    path[..., 0] = shocks[..., 0]
    scale = np.sqrt(1 - phi * phi)
    for t in range(1, shocks.shape[-1]):
        path[..., t] = phi * path[..., t - 1] + scale * shocks[..., t]
    return path


# --- calendar, companies, plan --------------------------------------------------------------------


def _calendar(p: SampleParameters) -> _Calendar:
    start = p.end - timedelta(days=p.sessions * 3 // 2 + 40)
    try:
        xasx = exchange_calendars.get_calendar("XASX", start=str(start), end=str(p.end))
    except ValueError as error:
        raise AsxwError(
            f"sample-market: no ASX calendar from {start} to {p.end}: {error}"
        ) from error
    days = xasx.sessions.to_numpy().astype("datetime64[D]")[-p.sessions :]
    if len(days) < p.sessions:
        raise AsxwError(f"sample-market: only {len(days)} sessions before {p.end}.")
    holes = np.empty(0, dtype="int64")
    if p.sessions >= 90:
        # sorted and at least ten sessions apart, away from both ends
        places = p.rng("holes").choice(np.arange(2, p.sessions // 10 - 1), 4, replace=False)
        holes = np.sort(places) * 10
    return _Calendar(
        days=days,
        missing=holes[[0, 1, 3]] if len(holes) else holes,
        thin=holes[[2]] if len(holes) else holes,
        directory_from=int(p.sessions * DIRECTORY_STARTS),
    )


def _companies(p: SampleParameters, calendar: _Calendar) -> _Companies:
    n = p.symbols
    slot = np.arange(n) % SLOTS
    rng = p.rng("companies")
    # one row of draws per company keeps the first companies of a larger market the same
    uniform = rng.random((n, 8))
    normal = p.rng("traits").standard_normal((n, 8))

    kind = np.full(n, "equity", dtype="<U7")
    kind[np.isin(slot, (51, 52))] = "etf"
    kind[slot == 53] = "fund"
    equity = kind == "equity"
    size = normal[:, 0] + np.where(slot == 0, 2.0, 0.0)
    log_cap = np.clip(7.6 + 0.95 * size, 6.3, 11.3)
    price = 10 ** np.clip(-0.8 + 0.5 * (log_cap - 7.6) + 0.45 * normal[:, 1], -2.3, 2.1)
    vol = np.exp(np.log(0.034) - 0.33 * (log_cap - 7.6) + 0.3 * normal[:, 2])
    weights = np.cumsum(SECTOR_WEIGHTS) / np.sum(SECTOR_WEIGHTS)
    pays = (log_cap > 8.4) & (uniform[:, 1] < 0.7) & equity
    return _Companies(
        kind=kind,
        sector=np.searchsorted(weights, uniform[:, 0]).astype("int64"),
        cap=10**log_cap,
        price=np.where(equity, price, 10 + 30 * uniform[:, 2]),
        beta=np.where(equity, np.clip(1 + 0.3 * normal[:, 3], 0.2, 2.0), 1.0),
        vol=np.where(equity, np.clip(vol, 0.009, 0.065), 0.004),
        turnover=np.exp(np.log(0.0012) + 0.15 * (log_cap - 7.6) + 0.7 * normal[:, 4]),
        quality=normal[:, 5],
        div_yield=np.where(pays, 0.02 + 0.05 * uniform[:, 3], 0.0),
        carried=uniform[:, 4] < 0.25,
        described=np.ones(n, dtype=bool),
        first=np.zeros(n, dtype="int64"),
        last=np.full(n, len(calendar.days) - 1),
        names=_names(p, kind),
    )


def _names(p: SampleParameters, kind: npt.NDArray[np.str_]) -> list[str]:
    first = ("Banksia", "Coolabah", "Wattle", "Kurrajong", "Mallee", "Ironbark", "Bilby", "Quokka")
    second = ("Ridge", "Creek", "Point", "Range", "Harbour", "Plains", "Gully", "Crossing", "Bay")
    third = ("Resources", "Minerals", "Holdings", "Group", "Health", "Energy", "Digital", "Capital")
    pick = p.rng("names").integers(0, 2**31, (p.symbols, 3))
    names = []
    for i, (a, b, c) in enumerate(pick):
        stem = f"{first[a % len(first)]} {second[b % len(second)]} {third[c % len(third)]}"
        names.append(f"{stem} {'Limited' if kind[i] == 'equity' else kind[i].upper()} {i + 1}")
    return names


class _Planner:
    """Places the special events of each block of 80 companies where the sessions have room."""

    def __init__(self, p: SampleParameters, calendar: _Calendar, companies: _Companies) -> None:
        self.sessions = p.sessions
        self.companies = companies
        self.holes = np.concatenate([calendar.missing, calendar.thin])
        self.draws = p.rng("plan").random((p.symbols, 3))
        self.early = (max(4, p.sessions // 12), calendar.directory_from - 11)
        self.late = (calendar.directory_from + 6, p.sessions - 8)
        self.events: list[Event] = []
        self.reclassified: dict[int, tuple[int, int]] = {}

    def place(self, i: int, window: tuple[int, int]) -> int | None:
        """A session in the window with no hole around it; None where the window has no room."""
        low, high = window
        for shift in range(max(high - low, 0)):
            at = low + (int(self.draws[i, 0] * (high - low)) + shift) % (high - low)
            if not np.isin([at - 1, at, at + 1], self.holes).any():
                return at
        return None

    def add(
        self, i: int, name: str, start: int, *, end: int = 0, ratio: float = np.nan, **why: str
    ) -> None:
        """Puts down one event; `end` 0 means the event is one session."""
        evidence, verdict = why.get("evidence", ""), why.get("verdict", "")
        self.events.append(Event(i, name, start, end or start, ratio, evidence, verdict))

    def capital_change(self, i: int, ratios: tuple[float, ...], evidence: str) -> None:
        """A split (ratio above 1) or consolidation with this evidence."""
        at = self.place(i, self.early if evidence in ("none", "action_early") else self.late)
        if at is None:
            return
        ratio = ratios[int(self.draws[i, 1] * len(ratios))]
        self.add(
            i,
            "split" if ratio > 1 else "consolidation",
            at,
            ratio=ratio,
            evidence="action" if evidence.startswith("action") else evidence,
            verdict="suspect" if evidence == "none" else "capital_change",
        )

    def real_move(self, i: int, name: str, *, late: bool) -> None:
        """A crash or jump of the company itself; the ratio is price after over before."""
        at = self.place(i, self.late if late else self.early)
        if at is None:
            return
        low, high = (0.12, 0.45) if name == "crash" else (2.2, 5.0)
        self.add(
            i,
            name,
            at,
            ratio=round(low + (high - low) * self.draws[i, 1], 3),
            evidence="directory" if late else "none",
            verdict="real_move" if late else "suspect",
        )

    def suspension(self, i: int, low: int, high: int) -> None:
        """`low` to `high` sessions without a trade, a trade before and after."""
        length = low + int(self.draws[i, 1] * (high - low + 1))
        at = self.place(i, (max(4, self.sessions // 5), self.sessions - length - 6))
        if at is not None:
            self.add(i, "suspension", at, end=at + length - 1)

    def open_suspension(self, i: int) -> None:
        """A suspension that is still on when the data end."""
        at = self.place(i, (self.sessions * 8 // 10, self.sessions - 4))
        if at is not None:
            self.add(i, "suspension", at, end=self.sessions - 1)

    def delisting(self, i: int, how: str) -> None:
        """The last trade; a takeover is bid for and a failure crashes some sessions before."""
        early = how in ("forgotten", "unknown")
        window = self.early if early else (self.late[0] + 25, self.late[1])
        at = self.place(i, window)
        if at is None:
            return
        self.companies.last[i] = at
        if early:
            self.companies.described[i] = how == "unknown"
            self.companies.kind[i] = "unknown"
        if how in ("takeover", "failure"):
            ratio = 1.35 if how == "takeover" else 0.3
            real = ("directory", "real_move") if how == "failure" else ("", "")
            before = self.place(i, (at - 20, at - 10))
            if before is not None:
                move = "bid" if how == "takeover" else "crash"
                self.add(i, move, before, ratio=ratio, evidence=real[0], verdict=real[1])
        self.add(i, "delisting", at, evidence=how)

    def listing(self, i: int) -> None:
        """A company that lists in the middle."""
        at = self.place(i, (self.sessions // 4, self.sessions - 10))
        if at is not None:
            self.companies.first[i] = at
            self.add(i, "listing", at)

    def rename(self, i: int, times: int) -> None:
        """One or two changes of the code."""
        for k in range(times):
            third = self.sessions // (3 * times)
            low = self.sessions // 4 + 2 * k * third
            at = self.place(i, (low, min(low + third, self.sessions - 6)))
            if at is not None:
                self.add(i, "rename", at)

    def reuse(self, first: int) -> None:
        """A code that dies and is given to the next company more than 60 sessions later."""
        end = self.place(first, (self.sessions // 10, self.sessions // 4))
        start = None if end is None else self.place(first + 1, (end + 75, self.sessions - 12))
        if end is None or start is None:
            return
        self.companies.last[first], self.companies.first[first + 1] = end, start
        self.companies.described[first] = False
        self.companies.kind[first] = "unknown"
        self.add(first, "delisting", end, evidence="forgotten")
        self.add(first + 1, "listing", start)
        self.add(first + 1, "reused_code", start)

    def deferred_settlement(self, i: int) -> None:
        """A consolidation whose first seven sessions trade on the deferred line (code + DC)."""
        at = self.place(i, (self.late[0], self.late[1] - 12))
        if at is None:
            return
        back = at + 7
        while np.isin([back - 1, back, back + 1], self.holes).any():
            back += 1
        self.add(i, "deferred_settlement", at, end=back - 1)
        self.add(
            i, "consolidation", back, ratio=0.05, evidence="directory", verdict="capital_change"
        )

    def reclassify(self, i: int) -> None:
        """A change of sector inside the directory's time."""
        at = self.place(i, self.late)
        if at is not None:
            sector = (int(self.companies.sector[i]) + 5) % len(SECTORS)
            self.reclassified[i] = (at, sector)
            self.add(i, "reclassification", at)


CONSOLIDATIONS = (0.1, 0.05, 0.02, 1 / 15, 0.04)
SPLITS = (2.0, 3.0, 4.0, 5.0, 10.0)

# what happens to a company, by its place in a block of 80
_ROLES: dict[int, Callable[[_Planner, int], None]] = {
    3: lambda s, i: s.capital_change(i, SPLITS, "action"),
    5: lambda s, i: s.capital_change(i, CONSOLIDATIONS, "action_early"),
    8: lambda s, i: s.capital_change(i, CONSOLIDATIONS, "directory"),
    11: lambda s, i: s.capital_change(i, SPLITS, "directory"),
    14: lambda s, i: s.capital_change(i, CONSOLIDATIONS, "none"),
    17: lambda s, i: s.real_move(i, "crash", late=True),
    20: lambda s, i: s.real_move(i, "jump", late=True),
    23: lambda s, i: s.real_move(i, "crash", late=False),
    26: lambda s, i: s.suspension(i, 10, 45),
    29: lambda s, i: s.suspension(i, 66, 90),
    32: lambda s, i: s.delisting(i, "takeover"),
    35: lambda s, i: s.delisting(i, "forgotten"),
    36: lambda s, i: s.delisting(i, "unknown"),
    38: lambda s, i: s.listing(i),
    39: lambda s, i: s.listing(i),
    41: lambda s, i: s.rename(i, 1),
    44: lambda s, i: s.rename(i, 2),
    48: lambda s, i: s.reuse(i - 1),
    56: lambda s, i: s.deferred_settlement(i),
    59: lambda s, i: s.reclassify(i),
    62: lambda s, i: s.delisting(i, "failure"),
    65: lambda s, i: s.capital_change(i, CONSOLIDATIONS, "action"),
    68: lambda s, i: s.capital_change(i, SPLITS, "none"),
    71: lambda s, i: s.open_suspension(i),
    74: lambda s, i: s.listing(i),
}


def _plan(p: SampleParameters, calendar: _Calendar, companies: _Companies) -> _Plan:
    planner = _Planner(p, calendar, companies)
    for i in range(p.symbols):
        if i % SLOTS in _ROLES:
            _ROLES[i % SLOTS](planner, i)

    letters = np.array(list("ABCDEFGHIJKLMNOPQRSTUVWXYZ"))
    order = p.rng("codes").permutation(26**3)
    drawn = letters[np.stack([order // 676, order // 26 % 26, order % 26], axis=1)]
    pool = ["".join(row) for row in drawn]
    codes = pool[: p.symbols]
    code = np.repeat(np.arange(p.symbols)[:, None], p.sessions, axis=1)
    renamed: list[tuple[int, int, int]] = []
    for event in planner.events:
        i = event.company
        if event.name == "reused_code":
            code[i] = code[i - 1, 0]
        if event.name == "rename":
            # codes after MAX_SYMBOLS belong to renamings, whatever the size of the market
            codes.append(pool[MAX_SYMBOLS + len(renamed)])
            renamed.append((int(code[i, event.start]), len(codes) - 1, event.start))
            code[i, event.start :] = len(codes) - 1
    directory_code = code.copy()
    for event in planner.events:
        if event.name == "deferred_settlement":
            codes.append(codes[code[event.company, event.start]] + "DC")
            code[event.company, event.start : event.end + 1] = len(codes) - 1
    companies.codes = codes
    return _Plan(planner.events, planner.reclassified, renamed, code, directory_code)


# --- prices ---------------------------------------------------------------------------------------


def _prices(p: SampleParameters, c: _Companies, plan: _Plan) -> _Prices:
    n, t = p.symbols, p.sessions
    latent = _persistent(p.rng("latent").standard_normal((n, t)), 0.5 ** (1 / LATENT_HALF_LIFE))
    returns, scale = _returns(p, c, plan, latent)
    level = np.log(c.price)[:, None] + np.cumsum(returns, axis=1)

    # shares on issue relative to the first session, and prices that make the event an ordinary one
    split = np.ones((n, t))
    deferred = {e.company: e.start for e in plan.of("deferred_settlement")}
    anchor = p.rng("anchor").random(n)
    for event in plan.events:
        i = event.company
        at = event.start
        if event.name in ("split", "consolidation"):
            # the deferred line trades at the new price already
            at = deferred.get(i, at)
            split[i, at:] *= event.ratio
            least, most = (0.004, 0.02) if event.ratio < 1 else (8.0, 60.0)
            if i in deferred:
                # on finer ticks, because the ratio is read from quotes some sessions apart
                least = 0.012
        elif event.verdict:
            least, most = 0.4, 3.0
        else:
            continue
        level[i] += np.log(least) + anchor[i] * np.log(most / least) - level[i, at - 1]

    shares = np.rint(c.cap / np.exp(level[:, 0]))[:, None] * split
    quote = np.exp(level) / split
    before = np.exp(np.concatenate([level[:, :1], level[:, :-1]], axis=1)) / split
    open_ = before * (quote / before) ** p.rng("opens").random((n, t)) ** 2
    reach = np.abs(p.rng("reach").standard_normal((n, 2, t))) * 0.35 * scale[:, None, :]
    round_price = _fine if p.null else _on_tick
    close, open_ = round_price(quote), round_price(open_)
    high = np.maximum(np.maximum(open_, close), round_price(quote * np.exp(reach[:, 0])))
    low = np.minimum(np.minimum(open_, close), round_price(quote * np.exp(-reach[:, 1])))

    listed, suspended, traded = _activity(p, c, plan)
    return _Prices(
        latent=latent,
        log_return=returns,
        open=open_,
        high=high,
        low=low,
        close=close,
        last_close=_carry(close, traded),
        volume=_volume(p, c, latent, returns / scale, shares),
        shares=shares,
        traded=traded,
        listed=listed,
        suspended=suspended,
    )


def _returns(
    p: SampleParameters, c: _Companies, plan: _Plan, latent: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Log returns and the volatility each was drawn with (both N x T).

    Every shock is symmetric around zero given its volatility, so without drift the sign of any
    future return is a fair coin in every volatility bucket: that is the null. Otherwise half the
    variance is taken off, which makes simple returns fair and gives the classic volatility drag.
    """
    n, t = latent.shape
    market_shocks = p.rng("market vol").standard_normal((1, t))
    market_vol = 0.007 * np.exp(0.3 * _persistent(market_shocks, 0.97)[0])
    market = market_vol * p.rng("market").standard_normal(t)
    if p.null:
        # a market that happened to rise would favour calm companies; this one ends where it began
        market -= market.mean()
    sector = 0.005 * p.rng("sectors").standard_normal((len(SECTORS), t))
    cluster = np.exp(0.3 * _persistent(p.rng("clusters").standard_normal((n, t)), 0.95))
    own_vol = c.vol[:, None] * cluster
    # five degrees of freedom have a variance of 5/3
    own = own_vol * p.rng("own").standard_t(5, (n, t)) / np.sqrt(5 / 3)
    equity = c.equity[:, None]
    returns = c.beta[:, None] * market + np.where(equity, sector[c.sector], 0.0) + own
    variance = (c.beta[:, None] * market_vol) ** 2 + np.where(equity, 0.005**2, 0.0) + own_vol**2
    scale = np.sqrt(variance)

    quiet = np.ones((n, t))
    drift = np.zeros((n, t))
    for event in plan.of("split", "consolidation", "crash", "jump", "bid"):
        # a small return of its own leaves the planted ratio readable in the quotes
        quiet[event.company, event.start] = 0.3
    for event in plan.of("deferred_settlement"):
        # the parent's quotes pause meanwhile, and the ratio is read across the pause
        quiet[event.company, event.start : event.end + 2] = 0.15
    returns = np.clip(returns * quiet, -MAX_LOG_RETURN, MAX_LOG_RETURN)
    if not p.null:
        known = np.concatenate([latent[:, :1], latent[:, :-1]], axis=1)
        planted = np.where(equity, PLANTED_DRIFT * scale * known, 0.0)
        drift = 0.0002 - variance / 2 + planted
        for i, at, fraction in _dividends(p, c):
            drift[i, at] += np.log1p(-fraction)
    returns += drift
    for event in plan.of("crash", "jump", "bid"):
        returns[event.company, event.start] += np.log(event.ratio)
    returns[:, 0] = 0.0
    return returns, scale


def _dividends(p: SampleParameters, c: _Companies) -> list[tuple[int, int, float]]:
    """(company, session, dividend over price) of every ex date, twice a year."""
    phase = p.rng("dividends").integers(20, 60, p.symbols)
    return [
        (i, at, float(c.div_yield[i] / 2))
        for i in np.flatnonzero(c.div_yield).tolist()
        for at in range(int(phase[i]), p.sessions, 126)
    ]


def _on_tick(price: FloatArray) -> FloatArray:
    """The nearest ASX tick, at least one: 0.001 below 0.10, 0.005 below 2.00, 0.01 above."""
    per_unit = np.where(price < 0.10, 1000.0, np.where(price < 2.0, 200.0, 100.0))
    return np.asarray(np.round(np.maximum(np.rint(price * per_unit) / per_unit, 0.001), 3))


def _fine(price: FloatArray) -> FloatArray:
    """Prices of the null: a millionth of a dollar, so that no return is a tie."""
    return np.asarray(np.round(np.maximum(price, 1e-5), 6))


def _activity(
    p: SampleParameters, c: _Companies, plan: _Plan
) -> tuple[BoolArray, BoolArray, BoolArray]:
    """Which cells are listed, suspended and traded (N x T)."""
    sessions = np.arange(p.sessions)
    listed = (sessions >= c.first[:, None]) & (sessions <= c.last[:, None])
    suspended = np.zeros_like(listed)
    daily_value = c.cap * c.turnover
    chance = 1 / (1 + np.exp(-(2.2 + 0.9 * np.log(daily_value / 6000))))
    chance = np.maximum(chance, 0.3)
    chance[c.carried] *= 0.97
    traded = p.rng("trades").random((p.symbols, p.sessions)) < chance[:, None]
    for event in plan.events:
        i = event.company
        if event.name == "suspension":
            suspended[i, event.start : event.end + 1] = True
            traded[i, max(event.start - 1, 0)] = True
            traded[i, min(event.end + 1, p.sessions - 1)] = True
        else:
            traded[i, max(event.start - 1, 0) : event.start + 1] = True
            traded[i, event.end] = True
        if event.name == "delisting":
            traded[i, event.start] = True
    return listed, suspended, traded & listed & ~suspended


def _carry(close: FloatArray, traded: BoolArray) -> FloatArray:
    """The last traded close up to each session (N x T), NaN before the first."""
    index = np.where(traded, np.arange(close.shape[1]), -1)
    index = np.maximum.accumulate(index, axis=1)
    carried = np.take_along_axis(close, np.maximum(index, 0), axis=1)
    return np.where(index < 0, np.nan, carried)


def _volume(
    p: SampleParameters, c: _Companies, latent: FloatArray, surprise: FloatArray, shares: FloatArray
) -> FloatArray:
    """Shares traded: log-normal, persistent, larger on large moves and in a good latent state."""
    noise = _persistent(p.rng("volume").standard_normal(latent.shape), 0.5)
    log_share = 0.7 * noise + 0.35 * np.minimum(np.abs(surprise), 5.0) + 0.8 * latent
    return np.maximum(np.rint(shares * c.turnover[:, None] * np.exp(log_share - 0.55)), 1.0)


def _priced(p: SampleParameters, calendar: _Calendar, c: _Companies, prices: _Prices) -> BoolArray:
    """Cells with a price row (N x T): traded, or carried with volume 0 by some vendors."""
    carried = c.carried[:, None] & prices.listed & ~np.isnan(prices.last_close)
    rows = prices.traded | carried
    rows[:, calendar.missing] = False
    rows[:, calendar.thin] &= p.rng("thin").random((p.symbols, 1)) < 0.2
    return np.asarray(rows)


def _prices_table(
    p: SampleParameters, calendar: _Calendar, c: _Companies, plan: _Plan, prices: _Prices
) -> pa.Table:
    rows = _priced(p, calendar, c, prices)
    # vendors do not carry the deferred line, and the parent has no rows while it trades
    deferred = plan.code != plan.directory_code
    rows &= ~deferred | prices.traded
    i, t = np.nonzero(rows)
    traded = prices.traded[i, t]
    close = prices.last_close[i, t]
    quotes = {
        name: np.where(traded, getattr(prices, name)[i, t], close)
        for name in ("open", "high", "low")
    }
    volume = np.where(traded, prices.volume[i, t], 0.0)
    adjusted = _round_significant(close * _adjustment(p, c, plan)[i, t])
    available = _at(calendar.days[t], DECISION_TIME)

    # some bars arrive wrong first and right some days later: the right bar is a second version
    chance = p.rng("corrections").random(rows.shape)[i, t]
    corrected = np.flatnonzero(traded & (t < p.sessions - 8) & (chance < 1 / 4000))
    first_volume = np.where(np.isin(np.arange(len(i)), corrected), np.rint(volume / 2), volume)
    first_close = np.where(np.isin(np.arange(len(i)), corrected), quotes["open"], close)
    keep = np.concatenate([np.arange(len(i)), corrected])
    order = np.argsort(keep, kind="stable")
    source = keep[order]
    is_second = order >= len(i)
    late = _at(calendar.days[np.minimum(t[source] + 3, p.sessions - 1)], 7 * 60)
    return _table(
        symbol=("text", _text(c.codes, plan.code[i, t][source])),
        trade_date=("date", calendar.days[t][source]),
        available_at=("timestamp", np.where(is_second, late, available[source])),
        open=("double precision", quotes["open"][source]),
        high=("double precision", quotes["high"][source]),
        low=("double precision", quotes["low"][source]),
        close=("double precision", np.where(is_second, close[source], first_close[source])),
        volume=(
            "double precision",
            np.where(is_second, volume[source], first_volume[source]),
        ),
        adj_close=("double precision", adjusted[source]),
    )


def _adjustment(p: SampleParameters, c: _Companies, plan: _Plan) -> FloatArray:
    """Vendor's total-return factor (N x T): actions with a row and dividends, as of the end."""
    step = np.ones((p.symbols, p.sessions))
    for event in plan.of("split", "consolidation"):
        if event.evidence == "action":
            step[event.company, event.start] /= event.ratio
    if not p.null:
        for i, at, fraction in _dividends(p, c):
            step[i, at] *= 1 - fraction
    later = np.cumprod(step[:, ::-1], axis=1)[:, ::-1]
    return np.asarray(later / step)


def _round_significant(values: FloatArray) -> FloatArray:
    """Eight significant digits, as vendors deliver adjusted prices."""
    digits = 10.0 ** (7 - np.floor(np.log10(values)))
    return np.asarray(np.rint(values * digits) / digits)


def _latent_table(calendar: _Calendar, c: _Companies, plan: _Plan, prices: _Prices) -> pa.Table:
    i, t = np.nonzero(prices.traded & c.equity[:, None])
    return _table(
        symbol=("text", _text(c.codes, plan.code[i, t])),
        trade_date=("date", calendar.days[t]),
        latent=("double precision", prices.latent[i, t]),
    )


# --- reference data -------------------------------------------------------------------------------


def _truth(calendar: _Calendar, c: _Companies, plan: _Plan) -> pa.Table:
    events = sorted(plan.events, key=lambda e: (e.start, e.company, e.name))
    known = [e for e in events if e.end < len(calendar.days)]
    start = np.array([e.start for e in known], dtype="int64")
    end = np.array([e.end for e in known], dtype="int64")
    company = np.array([e.company for e in known], dtype="int64")
    holes = np.concatenate([calendar.missing, calendar.thin])
    kinds = ["missing_session"] * len(calendar.missing) + ["thin_session"] * len(calendar.thin)
    nothing: list[None] = [None] * len(holes)
    ratio = [None if np.isnan(e.ratio) else e.ratio for e in known]
    return _table(
        symbol=("text", [c.codes[k] for k in plan.directory_code[company, start]] + nothing),
        event=("text", [e.name for e in known] + kinds),
        event_date=("date", np.concatenate([calendar.days[start], calendar.days[holes]])),
        end_date=("date", np.concatenate([calendar.days[end], calendar.days[holes]])),
        ratio=("double precision", ratio + nothing),
        evidence=("text", [e.evidence or None for e in known] + nothing),
        verdict=("text", [e.verdict or None for e in known] + nothing),
    )


def _corporate_actions(
    p: SampleParameters, calendar: _Calendar, c: _Companies, plan: _Plan, prices: _Prices
) -> pa.Table:
    rows: list[tuple[int, int, str, float | None, float | None]] = [
        (e.company, e.start, "split", e.ratio, None)
        for e in plan.of("split", "consolidation")
        if e.evidence == "action"
    ]
    if not p.null:
        for i, at, fraction in _dividends(p, c):
            amount = round(float(prices.close[i, at - 1]) * fraction, 4)
            if c.first[i] < at <= c.last[i] and amount > 0:
                rows.append((i, at, "dividend", None, amount))
    # rights issues and the like: known, and of no effect on the factor
    other = p.rng("other actions").random((p.symbols, 2))
    for i in np.flatnonzero((other[:, 0] < 0.03) & c.equity).tolist():
        at = int(other[i, 1] * (p.sessions - 2)) + 1
        if c.first[i] < at <= c.last[i]:
            rows.append((i, at, "other", None, None))
    rows.sort(key=lambda r: (r[1], r[0], r[2]))
    company = np.array([r[0] for r in rows], dtype="int64")
    session = np.array([r[1] for r in rows], dtype="int64")
    ex_date = calendar.days[session]
    return _table(
        symbol=("text", _text(c.codes, plan.directory_code[company, session])),
        ex_date=("date", ex_date),
        action=("text", [r[2] for r in rows]),
        ratio=("double precision", [r[3] for r in rows]),
        amount=("double precision", [r[4] for r in rows]),
        available_at=("timestamp", _at(ex_date - 18 * DAY, 9 * 60)),
    )


def _delisted_on(calendar: _Calendar, last: IntArray) -> DayArray:
    """The session after the last trade."""
    return calendar.days[np.minimum(last + 1, len(calendar.days) - 1)]


def _securities(calendar: _Calendar, c: _Companies, plan: _Plan) -> pa.Table:
    t = len(calendar.days)
    keep = np.flatnonzero(c.described)
    gone = c.last[keep] < t - 1
    delisted = _delisted_on(calendar, c.last[keep])
    bids = {e.company for e in plan.of("bid")}
    notice = np.array([5 if i in bids else 0 for i in keep])
    known = _at(calendar.days[np.maximum(c.last[keep] - notice, 0)], 9 * 60 + 10)
    # listed before the data begin, except where the listing is one of the planted ones
    age = (np.arange(len(c.first)) * 37 % 9000 + 30)[keep]
    listed = np.where(
        c.first[keep] == 0, calendar.days[0] - age * DAY, calendar.days[c.first[keep]]
    )
    sector = c.sector[keep].copy()
    for place, i in enumerate(keep.tolist()):
        if i in plan.reclassified:
            sector[place] = plan.reclassified[i][1]
    is_fund = np.isin(c.kind[keep], ("etf", "fund"))
    lines = plan.of("deferred_settlement")
    parents = [c.names[e.company] for e in lines]
    line_codes = [c.codes[plan.code[e.company, e.start]] for e in lines]
    none: list[None] = [None] * len(lines)
    sectors = np.where(is_fund, NO_SECTOR, np.array(SECTORS)[sector]).tolist()
    starts = [calendar.days[e.start].item() for e in lines]
    ends = [calendar.days[e.end + 1].item() for e in lines]
    end_known = _at(calendar.days[np.array([e.start for e in lines], dtype="int64")], 9 * 60)
    return _table(
        symbol=("text", [c.codes[k] for k in plan.directory_code[keep, t - 1]] + line_codes),
        name=("text", [c.names[i] for i in keep] + [f"{n} Deferred" for n in parents]),
        kind=("text", c.kind[keep].tolist() + ["other"] * len(lines)),
        sector=("text", sectors + none),
        industry=("text", [None] * (len(keep) + len(lines))),
        listed_on=("date", listed.astype("datetime64[D]").tolist() + starts),
        delisted_on=("date", np.where(gone, delisted, np.datetime64("NaT")).tolist() + ends),
        delisting_available_at=(
            "timestamp",
            np.concatenate([np.where(gone, known, np.datetime64("NaT")), end_known]),
        ),
    )


def _symbol_changes(calendar: _Calendar, c: _Companies, plan: _Plan) -> pa.Table:
    return _table(
        old_symbol=("text", [c.codes[old] for old, _, _ in plan.renamed]),
        new_symbol=("text", [c.codes[new] for _, new, _ in plan.renamed]),
        effective_on=("date", [calendar.days[at].item() for _, _, at in plan.renamed]),
    )


def _directory(
    p: SampleParameters, calendar: _Calendar, c: _Companies, plan: _Plan, prices: _Prices
) -> pa.Table:
    """One snapshot per calendar day, with the close of the session before the day."""
    days = _calendar_days(calendar.days[calendar.directory_from], calendar.days[-1])
    days = days[(p.rng("absent snapshots").random(len(days)) > 0.03) | (np.arange(len(days)) == 0)]
    before = np.maximum(calendar.session_before(days), 0)
    now = calendar.session_until(days)
    gone = np.where(
        c.last < p.sessions - 1, _delisted_on(calendar, c.last), calendar.days[-1] + DAY
    )
    listed = (days >= calendar.days[c.first][:, None]) & (days < gone[:, None])
    listed &= (c.described & (c.kind != "etf"))[:, None]
    i, d = np.nonzero(listed)
    cap = np.rint(prices.shares[i, before[d]] * prices.last_close[i, before[d]])
    # the day of the listing has no close before it
    cap = np.where(before[d] < c.first[i], 0.0, cap)
    unknown = prices.suspended[i, before[d]] | np.isnan(cap)
    sector = np.where(np.isin(c.kind, ("etf", "fund")), len(SECTORS), c.sector)[i]
    for company, (at, new) in plan.reclassified.items():
        sector[(i == company) & (now[d] >= at)] = new
    order = np.lexsort((i, d))
    i, d = i[order], d[order]
    return _table(
        symbol=("text", _text(c.codes, plan.directory_code[i, now[d]])),
        snapshot_date=("date", days[d]),
        available_at=("timestamp", _at(days[d], 24 * 60) - SECOND),
        market_cap=("double precision", _nullable(cap[order], unknown[order])),
        sector=("text", _text((*SECTORS, NO_SECTOR), sector[order])),
    )


# --- fundamentals ---------------------------------------------------------------------------------


def _period_ends(calendar: _Calendar) -> DayArray:
    """Ends of the half years from two and a half years before the first session."""
    first = int(str(calendar.days[0])[:4]) - 3
    last = int(str(calendar.days[-1])[:4])
    ends = [f"{year}-{tail}" for year in range(first, last + 1) for tail in ("06-30", "12-31")]
    days = np.array(ends, dtype="datetime64[D]")
    return np.asarray(days[(days > calendar.days[0] - 920 * DAY) & (days < calendar.days[-1])])


def _is_year_end(ends: DayArray) -> BoolArray:
    return np.array([str(day)[5:7] == "06" for day in ends])


def _reporting(p: SampleParameters, c: _Companies) -> BoolArray:
    """Companies with fundamentals: most of those that are described as equities."""
    return np.asarray((p.rng("reports").random(p.symbols) < 0.85) & (c.kind == "equity"))


def _fundamentals(
    p: SampleParameters, calendar: _Calendar, c: _Companies, plan: _Plan, prices: _Prices
) -> pa.Table:
    ends = _period_ends(calendar)
    published, assumed = _publications(p, ends)
    versions = _versions(
        p, calendar=calendar, c=c, reports=_reporting(p, c), published=published, assumed=assumed
    )
    i, j, at, factor, updated, is_assumed = versions
    figures = {name: m[i, j] for name, m in _accounts(p, calendar, c, prices, ends).items()}

    session = np.clip(calendar.session_before(at), c.first[i], c.last[i])
    quoted = prices.last_close[i, session]
    price = np.where(np.isnan(quoted), c.price[i], quoted)
    shares = prices.shares[i, np.clip(calendar.session_until(ends[j]), c.first[i], c.last[i])]
    net_income = figures["net_income"] * factor
    revenue = figures["revenue"] * (1 + 0.3 * (factor - 1))
    equity = figures["equity"]
    eps = net_income / shares
    cap = price * prices.shares[i, session]
    positive = np.where(net_income > 0, net_income, np.nan)
    columns = {
        "pe_ratio": cap / positive,
        "pb_ratio": cap / equity,
        "eps": eps,
        "roe": net_income / equity,
        "debt_to_equity": figures["debt_to_equity"],
        "market_cap": cap,
        "div_yield": np.where(c.div_yield[i] > 0, c.div_yield[i], 0.0),
        "revenue_growth_yoy": figures["revenue_growth_yoy"],
        "profit_margin": net_income / revenue,
        "current_ratio": figures["current_ratio"],
        "quick_ratio": figures["quick_ratio"],
        "eps_growth": figures["eps_growth"],
        "free_cash_flow": figures["free_cash_flow"] * factor,
        "net_income": net_income,
        "revenue": revenue,
        "equity": equity,
        "total_assets": figures["total_assets"],
        "shares_outstanding": shares,
    }
    gaps = p.rng("fundamental gaps").random((len(i), len(columns)))
    unknown_growth = (j < 2)[:, None] & np.isin(list(columns), ("eps_growth", "revenue_growth_yoy"))
    numbers: dict[str, tuple[str, Any]] = {}
    for place, (name, values) in enumerate(columns.items()):
        null = (gaps[:, place] < 0.03) | unknown_growth[:, place]
        if name == "pe_ratio":
            null |= np.isnan(values)
        # some vendors write a NaN where others leave the value out
        holed = np.where(gaps[:, place] > 0.985, np.nan, values)
        numbers[name] = ("double precision", _nullable(holed, null))
    return _table(
        symbol=("text", _text(c.codes, plan.directory_code[i, np.maximum(session, 0)])),
        period_end=("date", ends[j]),
        period_type=("text", _text(("half", "year"), _is_year_end(ends)[j].astype("int64"))),
        # the loader assumes the time that is missing
        available_at=("timestamp", np.where(is_assumed, np.datetime64("NaT"), at)),
        updated_at=("timestamp", updated),
        **numbers,
        shares_basis=("text", _text(("as filed",), np.zeros_like(i))),
        available_at_assumed=("boolean", pa.nulls(len(i), pa.bool_())),
        sector=("text", _text(SECTORS, c.sector[i])),
        industry=("text", pa.nulls(len(i), pa.string())),
    )


def _publications(p: SampleParameters, ends: DayArray) -> tuple[DayArray, BoolArray]:
    """When each company published each period (N x P), and where that is only assumed."""
    draws = p.rng("publications").random((p.symbols, len(ends), 6))
    lag = (45 + draws[:, :, 0] * 31).astype("int64")
    late = draws[:, :, 1] < 0.05
    lag = np.where(late, (80 + draws[:, :, 0] * 80).astype("int64"), lag)
    days = ends[None, :] + lag * DAY
    # most roll from the weekend to Monday, some do publish on a Saturday or Sunday
    weekday = (days.astype("int64") + 3) % 7
    roll = (weekday >= 5) & (draws[:, :, 2] > 0.25)
    days = np.asarray(days + np.where(roll, 7 - weekday, 0) * DAY)
    part = draws[:, :, 3]
    minute = np.where(
        part < 0.7,
        490 + draws[:, :, 4] * 110,
        np.where(part < 0.85, 600 + draws[:, :, 4] * 370, 976 + draws[:, :, 4] * 190),
    )
    assumed = draws[:, :, 5] < 0.03
    assumed_days: DayArray = (ends + 75 * DAY)[None, :]
    at = np.where(assumed, _at(assumed_days, 0), _at(days, minute.astype("int64")))
    return at, assumed


def _versions(
    p: SampleParameters,
    *,
    calendar: _Calendar,
    c: _Companies,
    reports: BoolArray,
    published: DayArray,
    assumed: BoolArray,
) -> tuple[IntArray, IntArray, DayArray, FloatArray, DayArray, BoolArray]:
    """Company, period, time, factor on the result, revision time and assumed, one per version."""
    draws = p.rng("versions").random((*published.shape, 4))
    ones, never = np.ones(published.shape), np.zeros(published.shape, dtype=bool)
    pieces: list[tuple[DayArray, FloatArray, BoolArray, BoolArray]]
    pieces = [(published, ones, assumed, ~never)]
    # a second version of the same report some hours later, on the same day
    hours = np.asarray((60 + draws[:, :, 1] * 200).astype("int64") * MINUTE)
    again = (draws[:, :, 0] < 0.04) & ~assumed
    pieces.append((np.asarray(published + hours), 1 + 0.05 * (draws[:, :, 2] - 0.5), never, again))
    # an old period restated after the newer one is out
    newer = np.roll(published, -1, axis=1)
    restated = (draws[:, :, 0] > 0.94) & (np.arange(published.shape[1]) < published.shape[1] - 1)
    days = (1 + draws[:, :, 1] * 20).astype("int64") * DAY
    latest = np.maximum(newer, published)
    pieces.append((np.asarray(latest + days), 0.5 + draws[:, :, 2], never, restated))

    # only what was out by the end, by companies listed within a year before and until then
    end = _end_of_market(calendar)
    start = np.where(c.first > 0, calendar.days[c.first] - 200 * DAY, np.datetime64("1900-01-01"))
    stop = np.where(c.last < p.sessions - 1, calendar.days[c.last].astype("datetime64[us]"), end)
    collected = []
    for order, (at, factor, is_assumed, present) in enumerate(pieces):
        out = present & reports[:, None] & (at < stop[:, None]) & (at >= start[:, None])
        i, j = np.nonzero(out)
        collected.append((i, j, np.full(len(i), order), at[i, j], factor[i, j], is_assumed[i, j]))
    i, j, order_, at, factor, is_assumed = (np.concatenate(x) for x in zip(*collected, strict=True))
    sort = np.lexsort((order_, at, j, i))
    i, j, at, factor, is_assumed = i[sort], j[sort], at[sort], factor[sort], is_assumed[sort]
    touch = p.rng("revision times").random(len(i))
    updated = at + np.where(touch < 0.1, (touch * 6000).astype("int64"), 0) * MINUTE
    updated[(touch > 0.98) | (updated >= end)] = np.datetime64("NaT")
    return i, j, at, factor, updated, is_assumed


def _accounts(
    p: SampleParameters, calendar: _Calendar, c: _Companies, prices: _Prices, ends: DayArray
) -> dict[str, FloatArray]:
    """Figures of each company and period (N x P). Return on equity shows the latent state."""
    n, k = p.symbols, len(ends)
    noise = p.rng("accounts").standard_normal((n, k, 6))
    fixed = p.rng("balance sheets").standard_normal((n, 5))
    session = np.clip(calendar.session_until(ends), 0, p.sessions - 1)
    state = prices.latent[:, session]
    size = np.log10(c.cap)[:, None] - 7.6
    roe = -0.04 + 0.05 * size + 0.05 * c.quality[:, None] + 0.07 * state + 0.05 * noise[:, :, 0]
    drift = 0.05 * np.cumsum(noise[:, :, 1], axis=1)
    equity = c.cap[:, None] * np.exp(-0.5 + 0.6 * fixed[:, :1] + drift)
    growth = 0.03 + 0.02 * c.quality[:, None] + 0.08 * noise[:, :, 2]
    revenue = equity * 0.5 * np.exp(0.7 * fixed[:, 1:2] + np.cumsum(growth, axis=1))
    net_income = roe * equity
    debt = np.exp(-1.2 + 0.8 * fixed[:, 2:3] + 0.1 * noise[:, :, 3])
    current = np.exp(0.5 + 0.4 * fixed[:, 3:4] + 0.15 * noise[:, :, 4])
    year_ago = np.roll(net_income, 2, axis=1)
    return {
        "net_income": net_income,
        "equity": equity,
        "revenue": revenue,
        "debt_to_equity": debt,
        "current_ratio": current,
        "quick_ratio": current * (0.5 + 0.4 / (1 + np.exp(-fixed[:, 4:5]))),
        "total_assets": equity * (1.3 + debt),
        "free_cash_flow": net_income * 0.8 + 0.03 * equity * noise[:, :, 5],
        "revenue_growth_yoy": revenue / np.roll(revenue, 2, axis=1) - 1,
        "eps_growth": (net_income - year_ago) / np.abs(year_ago),
    }


# --- macro, announcements, shorts, indices --------------------------------------------------------


def _macro(p: SampleParameters, calendar: _Calendar) -> pa.Table:
    """Rates of every weekday, unemployment by month and inflation by quarter."""
    rng = p.rng("macro")
    days = _calendar_days(calendar.days[0] - 800 * DAY, calendar.days[-1])
    days = days[~_is_weekend(days)]
    meetings = np.arange(len(days)) // 30
    steps = rng.choice([-0.25, 0.0, 0.25], len(days) // 30 + 1, p=[0.2, 0.6, 0.2])
    cash = np.clip(np.cumsum(steps) + 3.35, 0.1, 7.0)[meetings]
    noise = rng.standard_normal((2, len(days)))
    two = cash + 0.2 + 0.4 * _persistent(noise[0], 0.99)
    ten = two + 0.5 + 0.4 * _persistent(noise[1], 0.995)

    months = np.arange(
        days[0].astype("datetime64[M]"), days[-1].astype("datetime64[M]") + 1, dtype="datetime64[M]"
    )
    month_ends = (months + 1).astype("datetime64[D]") - DAY
    jobless = np.round(4.1 + 0.5 * _persistent(rng.standard_normal(len(months)), 0.95), 1)
    jobless_out = _at(np.asarray(month_ends + 18 * DAY), 11 * 60 + 30)
    quarters = month_ends[months.astype("int64") % 3 == 2]
    inflation = np.round(3.2 + _persistent(rng.standard_normal(len(quarters)), 0.9), 1)
    revised = np.flatnonzero(rng.random(len(months)) < 0.2)

    # one entry per series: id, reference dates, release times, values, revised
    blocks = [
        ("cpi_yoy", quarters, _at(quarters + 30 * DAY, 11 * 60 + 30), inflation, False),
        ("rba_cash_rate", days, _at(days, 14 * 60 + 30), np.round(cash, 2), False),
        ("unemployment", month_ends, jobless_out, jobless, False),
        (
            "unemployment",
            month_ends[revised],
            jobless_out[revised] + 30 * DAY,
            np.round(jobless[revised] + 0.1, 1),
            True,
        ),
        ("yield_10y", days, _at(days, 16 * 60 + 30), np.round(ten, 3), False),
        ("yield_2y", days, _at(days, 16 * 60 + 30), np.round(two, 3), False),
    ]
    names = [block[0] for block in blocks]
    which = np.repeat(np.arange(len(blocks)), [len(block[1]) for block in blocks])
    released = np.concatenate([block[2] for block in blocks])
    known = released < _end_of_market(calendar)
    return _table(
        series_id=("text", _text(names, which[known])),
        reference_date=("date", np.concatenate([block[1] for block in blocks])[known]),
        available_at=("timestamp", released[known]),
        value=("double precision", np.concatenate([block[3] for block in blocks])[known]),
        unit=("text", _text(("per cent",), np.zeros(int(known.sum()), dtype="int64"))),
        is_revised_vintage=("boolean", np.array([block[4] for block in blocks])[which[known]]),
    )


# headline, relative frequency, share that is price sensitive
HEADLINES: tuple[tuple[str, float, float], ...] = (
    ("Change of Director's Interest Notice", 12, 0.0),
    ("Application for quotation of securities", 10, 0.0),
    ("Becoming a substantial holder", 4, 0.0),
    ("Ceasing to be a substantial holder", 3, 0.0),
    ("Change in substantial holding", 6, 0.0),
    ("Notice of Annual General Meeting/Proxy Form", 2, 0.0),
    ("Results of Meeting", 3, 0.0),
    ("Investor Presentation", 5, 0.4),
    ("Appendix 4G and Corporate Governance Statement", 1.5, 0.0),
    ("Cleansing Notice", 4, 0.0),
    ("Response to ASX Price Query", 1, 0.0),
    ("Appointment of Non-Executive Director", 1.5, 0.1),
    ("CEO Resignation", 0.6, 0.6),
    ("Company Secretary Appointment/Resignation", 1, 0.0),
    ("Quarterly Activities/Appendix 5B Cash Flow Report", 4, 0.7),
    ("Quarterly Activities Report", 3, 0.8),
    ("Half Yearly Report and Accounts", 1, 0.9),
    ("Full Year Statutory Accounts", 1, 0.5),
    ("Record full year profit", 0.5, 1.0),
    ("Trading Update - earnings below expectations", 0.5, 1.0),
    ("FY Guidance Upgraded", 0.5, 1.0),
    ("Earnings Guidance Downgrade", 0.5, 1.0),
    ("FY Guidance Reaffirmed", 0.7, 0.9),
    ("Withdrawal of Earnings Guidance", 0.2, 1.0),
    ("Dividend/Distribution", 3, 0.2),
    ("Update - Dividend/Distribution", 1, 0.1),
    ("Special Dividend Declared", 0.2, 0.9),
    ("Dividend Suspended", 0.1, 0.9),
    ("Completion of Acquisition", 0.8, 0.5),
    ("Binding Agreement for Acquisition of Project", 0.8, 1.0),
    ("Takeover Bid - Bidder's Statement", 0.3, 0.9),
    ("Scheme Implementation Deed Signed", 0.2, 1.0),
    ("Termination of Proposed Acquisition", 0.2, 1.0),
    ("Proposed issue of securities", 4, 0.1),
    ("Completion of $12M Placement", 1, 0.9),
    ("Capital Raising Presentation", 0.8, 0.9),
    ("Share Purchase Plan Offer Booklet", 0.6, 0.2),
    ("Fully Underwritten Entitlement Offer", 0.5, 0.9),
    ("On-market Buy-back Update", 3, 0.0),
    ("Trading Halt", 1.5, 0.9),
    ("Pause in Trading", 0.5, 0.9),
    ("High Grade Gold Intersected at Depth", 2, 1.0),
    ("Maiden Mineral Resource Estimate", 0.7, 1.0),
    ("Drilling Fails to Extend Mineralisation", 0.5, 1.0),
    ("Contract Award", 1, 0.9),
    ("Loss of Major Contract", 0.2, 1.0),
    ("Positive Phase 2 Trial Results", 0.3, 1.0),
    ("Clinical Trial Does Not Meet Primary Endpoint", 0.1, 1.0),
    ("Impairment of Assets", 0.3, 0.9),
    ("Appointment of Voluntary Administrator", 0.1, 1.0),
)
# what a planted event says at half past eight: headline, and whether at its start or after its end
_EVENT_HEADLINES: tuple[tuple[str, str, bool], ...] = (
    ("suspension", "Suspension from Quotation", True),
    ("suspension", "Reinstatement to Quotation", False),
    ("delisting", "Removal from Official List", True),
    ("listing", "Admission to Official List", True),
    ("rename", "Change of Company Name and ASX Code", True),
    ("bid", "Takeover Offer at Premium", True),
)
_REPORT_HEADLINES = ("Half Year Results Announcement", "Preliminary Final Report")


class _Said(NamedTuple):
    """Announcements: company, time, headline, price sensitive, and draws (n x 4) for the rest."""

    company: IntArray
    at: DayArray
    headline: list[str]
    sensitive: BoolArray
    rest: FloatArray


def _announcements(
    p: SampleParameters, calendar: _Calendar, c: _Companies, plan: _Plan
) -> pa.Table:
    parts = [
        _everyday_announcements(p, calendar, c),
        _event_announcements(calendar, plan),
        _report_announcements(p, calendar, c),
    ]
    i = np.concatenate([part.company for part in parts])
    at = np.concatenate([part.at for part in parts])
    sensitive = np.concatenate([part.sensitive for part in parts])
    rest = np.concatenate([part.rest for part in parts])
    labels, headline = np.unique(
        np.concatenate([part.headline for part in parts]), return_inverse=True
    )

    # some arrive twice: alike in symbol, time and headline, told apart by the sequence
    twice = np.repeat(np.arange(len(i)), 1 + (rest[:, 0] < 0.01))
    twice = twice[at[twice] < _end_of_market(calendar)]
    order = twice[np.lexsort((headline[twice], at[twice], i[twice]))]
    is_new = np.ones(len(order), dtype=bool)
    is_new[1:] = (
        (np.diff(i[order]) != 0)
        | (at[order][1:] != at[order][:-1])
        | (np.diff(headline[order]) != 0)
    )
    group_start = np.maximum.accumulate(np.where(is_new, np.arange(len(order)), 0))
    session = np.maximum(calendar.session_until(at[order]), 0)
    unscored = rest[order, 1] >= 0.12
    confidence = np.round(0.5 + rest[order, 3] / 2, 3)
    return _table(
        symbol=("text", _text(c.codes, plan.directory_code[i[order], session])),
        announced_at=("timestamp", at[order]),
        headline=("text", _text(labels.tolist(), headline[order])),
        sequence=("bigint", 1 + np.arange(len(order)) - group_start),
        pages=("bigint", 1 + (rest[order, 3] ** 3 * 60).astype("int64")),
        price_sensitive=("boolean", sensitive[order]),
        sentiment=("double precision", _nullable(np.round(rest[order, 2] * 2 - 1, 3), unscored)),
        confidence=("double precision", _nullable(confidence, unscored)),
    )


def _everyday_announcements(p: SampleParameters, calendar: _Calendar, c: _Companies) -> _Said:
    per_session = np.where(c.equity, 0.16, 0.03)
    busy = np.exp(0.4 * p.rng("busy").standard_normal(p.symbols))
    sessions = c.last - c.first + 1
    count = p.rng("announcement counts").poisson(per_session * busy * sessions)
    i = np.repeat(np.arange(p.symbols), count)
    # a row of draws per announcement, company by company
    draws = p.rng("announcements").random((len(i), 10))
    weights = np.cumsum([h[1] for h in HEADLINES]) / sum(h[1] for h in HEADLINES)
    headline = np.searchsorted(weights, draws[:, 1])
    part, within = draws[:, 2], draws[:, 3]
    # half before the open, a third in the session, the rest after the close
    second = np.where(
        part < 0.5,
        27_000 + within * 9_000,
        np.where(part < 0.85, 36_000 + within * 22_500, 58_500 + within * 11_700),
    ).astype("int64")
    session = c.first[i] + (draws[:, 0] * sessions[i]).astype("int64")
    # three days after a session is often a day without one
    days = calendar.days[session] + np.where(draws[:, 4] < 0.01, 3, 0) * DAY
    return _Said(
        company=i,
        at=np.asarray(_at(days, 0) + second * SECOND),
        headline=[HEADLINES[h][0] for h in headline],
        sensitive=draws[:, 5] < np.array([h[2] for h in HEADLINES])[headline],
        rest=draws[:, 6:],
    )


def _event_announcements(calendar: _Calendar, plan: _Plan) -> _Said:
    said = [
        (event.company, event.start if at_start else event.end + 1, headline)
        for name, headline, at_start in _EVENT_HEADLINES
        for event in plan.of(name)
    ]
    said = [(i, t, headline) for i, t, headline in said if t < len(calendar.days)]
    return _Said(
        company=np.array([i for i, _, _ in said], dtype="int64"),
        at=_at(calendar.days[np.array([t for _, t, _ in said], dtype="int64")], 8 * 60 + 30),
        headline=[headline for _, _, headline in said],
        sensitive=np.ones(len(said), dtype=bool),
        rest=np.full((len(said), 4), 0.5),
    )


def _report_announcements(p: SampleParameters, calendar: _Calendar, c: _Companies) -> _Said:
    """The day a report is out, where the time of its publication is known."""
    ends = _period_ends(calendar)
    published, assumed = _publications(p, ends)
    first, last = calendar.days[c.first], calendar.days[c.last] + DAY
    out = _reporting(p, c)[:, None] & ~assumed
    out &= (published >= first[:, None]) & (published < last[:, None])
    i, j = np.nonzero(out)
    return _Said(
        company=i,
        at=published[i, j],
        headline=[_REPORT_HEADLINES[k] for k in _is_year_end(ends)[j].astype(int)],
        sensitive=np.ones(len(i), dtype=bool),
        rest=np.full((len(i), 4), 0.7),
    )


def _short_positions(
    p: SampleParameters, calendar: _Calendar, c: _Companies, plan: _Plan, prices: _Prices
) -> pa.Table:
    """Daily positions of the larger companies, published four sessions later."""
    rng = p.rng("short positions")
    level = rng.standard_normal((p.symbols, 2))
    walk = _persistent(p.rng("short walks").standard_normal((p.symbols, p.sessions)), 0.98)
    pct = np.exp(0.1 + 1.0 * level[:, :1] + 0.5 * walk)
    chance = p.rng("short outliers").random((p.symbols, p.sessions))
    pct = np.where(chance < 0.0003, 137.2, np.where(chance > 0.9997, -0.4, np.minimum(pct, 25.0)))
    shorted = (c.cap > 1.5e8) & c.described & (c.kind != "fund")
    known = np.arange(p.sessions) < p.sessions - 4
    i, t = np.nonzero(prices.listed & shorted[:, None] & known)
    published = calendar.days[np.minimum(t + 4, p.sessions - 1)]
    return _table(
        symbol=("text", _text(c.codes, plan.directory_code[i, t])),
        trade_date=("date", calendar.days[t]),
        available_at=("timestamp", _at(published, 9 * 60)),
        short_pct=("double precision", np.round(pct[i, t], 4)),
    )


def _index_levels(
    p: SampleParameters, calendar: _Calendar, c: _Companies, prices: _Prices
) -> pa.Table:
    """Cap-weighted returns of the largest 200 and 500, weights of the session before."""
    cap = c.cap[:, None] * np.exp(np.cumsum(prices.log_return, axis=1))
    cap = np.where(prices.listed & c.equity[:, None], cap, 0.0)
    simple = np.expm1(prices.log_return)
    gaps = p.rng("index gaps").permutation(np.arange(5, p.sessions - 5))[:3]
    names, parts = ("ALL ORD", "ASX200"), []
    for place, (members, base) in enumerate(((500, 7400.0), (200, 7100.0))):
        weight = cap.copy()
        if p.symbols > members:
            floor = np.partition(cap, -members, axis=0)[-members]
            weight[cap < floor] = 0.0
        held = weight[:, :-1] * prices.listed[:, 1:]
        total = held.sum(axis=0)
        moves = (held * simple[:, 1:]).sum(axis=0) / np.where(total > 0, total, 1.0)
        level = np.round(base * np.cumprod(np.concatenate([[1.0], 1 + moves])), 1)
        lacking = gaps[:1] if place == 0 else gaps[1:]
        have = np.setdiff1d(np.arange(p.sessions), lacking)
        parts.append((np.full(len(have), place), have, level[have]))
    which, session, level = (np.concatenate(x) for x in zip(*parts, strict=True))
    return _table(
        index_code=("text", _text(names, which)),
        trade_date=("date", calendar.days[session]),
        close=("double precision", level),
    )
