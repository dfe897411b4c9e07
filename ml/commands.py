"""The commands that train, tune, judge, score, report and export."""

from __future__ import annotations

import getpass
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import date, datetime
from functools import partial
from pathlib import Path
from typing import Any

import click
import pyarrow.compute as pc
import yaml

from ml.ablation import Ablation, headline, plan_comparisons, run_ablation, write_ablation
from ml.artifacts import Feature, check_features, load_artifact, save_artifact
from ml.audit.record import data_name
from ml.config import ModelConfig, check_shared, lay_choices, read_config, read_overlay
from ml.contract import read_contract
from ml.dataset import SEGMENT_COLUMN, latest_session, read_panel
from ml.errors import AsxwError
from ml.evaluation import ALL, POOLED, Metric
from ml.export import export_panel
from ml.gates import ALARM, GateResult, gate_rows, judge_run, read_gates, signal_thresholds
from ml.ledger import (
    TRAIN,
    Outcome,
    Trial,
    begin,
    complete,
    fail,
    failures_recorded,
    luck_line,
    new_trial,
    read_judged,
    run_series,
)
from ml.manifest import ProjectManifest, project_manifest
from ml.project_state import git_commit
from ml.reasons import FEATURE, REGRESSOR
from ml.registry import SEED, champion, promote, side_by_side_metrics
from ml.report import Source, render, render_card
from ml.scoring import Scores, find_run, score, session_to_score, sessions_between, write_scores
from ml.text_table import text_table
from ml.training import MODEL, TrainingRun, train, write_run
from ml.tuning import (
    Keeper,
    Past,
    best_of,
    inner_data,
    make_study_id,
    read_past,
    run_study,
)
from ml.warehouse import Warehouse, open_warehouse, project_vars, write_when_free

Command = Callable[..., Any]

_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
_FOLDER = click.Path(file_okay=False, path_type=Path)
_WAIT_SECONDS = 600
# a failure is shown at once: only its line in the ledger would be lost
_WAIT_AFTER_FAILURE = 5


def _say(line: str) -> None:
    click.echo(line, err=True)


def _dbt_options(command: Command) -> Command:
    """Options that say which build of the dbt project is meant."""
    command = click.option(
        "--vars",
        "variables",
        default=None,
        help="Variables of the dbt build, YAML or JSON, as for dbt.",
    )(command)
    return click.option(
        "--manifest", type=_FILE, default=None, help="dbt's manifest.json (default: target/)."
    )(command)


_config_option = click.option(
    "--config", "config_file", type=_FILE, default=None, help="YAML file laid over model.yml."
)
_run_option = click.option(
    "--run", "run_id", default=None, help="Run (default: the champion, or the newest)."
)
_artifacts_option = click.option(
    "--artifacts", type=_FOLDER, default=None, help="Root of saved models (default: artifacts/)."
)


def _manifest(
    settings: dict[str, Any], manifest: Path | None, variables: str | None
) -> ProjectManifest:
    return project_manifest(settings["project_dir"], manifest, settings["target"], variables)


def _described_features(described: ProjectManifest) -> list[Feature]:
    return [Feature(c.name, c.dtype, c.family, c.lookback, c.unit) for c in described.columns]


# --- tables on the terminal ---------------------------------------------------------------------


def _number(metric: Metric | None) -> str:
    return "-" if metric is None else f"{metric.value:.4f}"


def _with_interval(metric: Metric | None) -> str:
    if metric is None:
        return "-"
    if metric.low != metric.low:
        return f"{metric.value:.4f} [no interval]"
    return f"{metric.value:.4f} [{metric.low:.4f}, {metric.high:.4f}]"


def _signed_interval(metric: Metric | None) -> str:
    if metric is None:
        return "-"
    if metric.low != metric.low:
        return f"{metric.value:+.4f}"
    return f"{metric.value:+.4f} [{metric.low:+.4f}, {metric.high:+.4f}]"


def fold_table(run: TrainingRun, baseline: str) -> str:
    """The table `asxw train` ends with: one line per fold, then all out-of-fold rows."""
    found = {(m.predictor, m.fold, m.name): m for m in run.metrics if m.segment == ALL}
    folds = {(f["fold"], f["role"]): f for f in run.tables["folds"].to_pylist()}
    columns = (
        ("AUC pooled", MODEL, "roc_auc_pooled"),
        ("AUC session", MODEL, "roc_auc_session"),
        (f"{baseline} AUC session", baseline, "roc_auc_session"),
        ("Rank IC", MODEL, "rank_ic"),
        ("RMSE raw", MODEL, "rmse"),
        ("RMSE winsorised", MODEL, "rmse_winsorised"),
    )
    header = ["fold", "train sessions", "rows", "test sessions", "rows", "features"]
    header += [title for title, _, _ in columns]
    rows = []
    for number in sorted({fold for fold, _ in folds}):
        fitted, scored = folds[number, "train"], folds[number, "test"]
        rows.append(
            [
                str(number),
                f"{fitted['first_session']}..{fitted['last_session']} ({fitted['n_sessions']})",
                f"{fitted['n_rows']:,}",
                f"{scored['first_session']}..{scored['last_session']} ({scored['n_sessions']})",
                f"{scored['n_rows']:,}",
                str(fitted["n_features"]),
                *(_number(found.get((predictor, number, name))) for _, predictor, name in columns),
            ]
        )
    lines = [text_table(header, rows, left=0), "", "All out-of-fold rows, with 95 % intervals:"]
    for title, predictor, name in columns:
        lines.append(f"  {title}: {_with_interval(found.get((predictor, POOLED, name)))}")
    difference = f"{MODEL} - {baseline}"
    for name in ("roc_auc_session", "rank_ic"):
        metric = found.get((difference, POOLED, name))
        lines.append(f"  {difference}, {name}: {_with_interval(metric)}")
    return "\n".join(lines)


# --- commands -----------------------------------------------------------------------------------


def _evaluation_columns(config: ModelConfig) -> list[str]:
    columns = [column for column, _ in config.evaluation.baselines.values()]
    return list(dict.fromkeys([*columns, SEGMENT_COLUMN]))


@click.command("train")
@_dbt_options
@_config_option
@_artifacts_option
@click.pass_obj
def train_command(
    settings: dict[str, Any],
    *,
    manifest: Path | None,
    variables: str | None,
    config_file: Path | None,
    artifacts: Path | None,
) -> None:
    """Train and evaluate the model on the warehouse's panel."""
    project_dir, target = settings["project_dir"], settings["target"]
    config = read_config(config_file)
    described = _manifest(settings, manifest, variables)
    features = described.features(config.features)
    contract = read_contract(project_dir, "ml")
    laid_over = project_vars(project_dir, variables)
    check_shared(config.evaluation, laid_over)
    gates, thresholds = read_gates(), signal_thresholds(laid_over)
    label = str(laid_over.get("label_price", "close"))

    schema, commit = described.results_schema, git_commit(project_dir)
    trial = new_trial(TRAIN, config, features, label=label, git_commit=commit)

    def write(rows: Callable[[Warehouse], None], seconds: float = _WAIT_SECONDS) -> None:
        write_when_free(project_dir, target, seconds, _say, rows)

    with open_warehouse(project_dir, target) as warehouse:
        warehouse.create_tables(schema, contract)
        begin(warehouse, schema, contract, trial)
    with failures_recorded(trial, schema, contract, partial(write, seconds=_WAIT_AFTER_FAILURE)):
        # The file is given back while the models are trained, so that dbt and readers can go on.
        with open_warehouse(project_dir, target) as warehouse:
            latest = latest_session(warehouse, described.features_daily)
            panel = read_panel(warehouse, described.panel, features, _evaluation_columns(config))
        run = train(
            panel,
            config,
            latest=latest,
            label=label,
            git_commit=commit,
            report=_say,
            columns=_described_features(described),
        )
        families = {c.name: c.family for c in described.columns if c.family}
        results = judge_run(run, gates, families, thresholds)
        run = replace(run, tables=run.tables | {"gates": gate_rows(run.run_id, results)})

        root = artifacts or project_dir / "artifacts"
        folder = save_artifact(root, run.card, run.classifier, run.regressor, run.tables)
        series = run_series(run.tables["session_metrics"], MODEL, ALL)
        outcome = Outcome(series, panel.checksum, run.run_id)

        luck: list[str] = []

        def finish(warehouse: Warehouse) -> None:
            # a run without its place in the ledger would be one more that nobody counts
            with warehouse.transaction():
                write_run(warehouse, schema, contract, run)
                luck.append(luck_line(complete(warehouse, schema, contract, trial, outcome)))

        write(finish)

    click.echo(fold_table(run, next(iter(config.evaluation.baselines))))
    click.echo("\nGates:")
    click.echo(gate_table(results))
    click.echo(f"\n{luck[-1]}")
    for warning in run.warnings:
        click.echo(f"warning: {warning}")
    click.echo(f"run {run.run_id}: trained through {run.card.trained_through}, saved in {folder}")


def gate_table(results: Sequence[GateResult]) -> str:
    """Every gate, its condition and what was reached."""

    def cell(r: GateResult) -> str:
        if r.value != r.value:
            return "-"
        interval = "" if r.low != r.low else f" [{r.low:.4f}, {r.high:.4f}]"
        return f"{r.value:,.4f}".rstrip("0").rstrip(".") + interval

    def verdict(r: GateResult) -> str:
        if r.gate.level == ALARM:
            return "silent" if r.passed else "ALARM"
        return "passed" if r.passed else "FAILED"

    rows = [[r.gate.level, r.gate.name, r.wanted, cell(r), verdict(r), r.note] for r in results]
    return text_table(["level", "gate", "wanted", "reached", "", ""], rows, left=6)


def ablation_table(ablation: Ablation) -> str:
    """The table `asxw ablation` ends with: one line per kind and family."""
    segments = list(dict.fromkeys(m.segment for _, m in ablation.metrics))
    header = ["kind", "family", "features"]
    header += [f"AUC session, {s}" for s in segments] + ["Rank IC, all"]
    cells: dict[tuple[str, str, str, str], Metric] = {}
    for comparison, metric in ablation.metrics:
        if metric.fold == POOLED:
            cells[comparison.kind, comparison.family, metric.segment, metric.name] = metric
    rows = [
        [
            c.kind,
            c.family,
            str(len(c.with_family) - len(c.without_family)),
            *(
                _signed_interval(cells.get((c.kind, c.family, s, "roc_auc_session")))
                for s in segments
            ),
            _signed_interval(cells.get((c.kind, c.family, ALL, "rank_ic"))),
        ]
        for c, _ in headline(ablation, "roc_auc_session")
    ]
    return text_table(header, rows, left=2)


@click.command("ablation")
@_dbt_options
@_config_option
@click.option(
    "--from",
    "first_day",
    type=click.DateTime(["%Y-%m-%d"]),
    default=None,
    help="Leave earlier sessions out: for a family whose source begins late, which the coverage "
    "filter would otherwise keep out of every fold.",
)
@click.option(
    "--to",
    "last_day",
    type=click.DateTime(["%Y-%m-%d"]),
    default=None,
    help="Leave later ones out.",
)
@click.pass_obj
def ablation_command(
    settings: dict[str, Any],
    *,
    manifest: Path | None,
    variables: str | None,
    config_file: Path | None,
    first_day: datetime | None,
    last_day: datetime | None,
) -> None:
    """Show what each feature family is worth: models with and without it on the same folds."""
    project_dir, target = settings["project_dir"], settings["target"]
    config = read_config(config_file)
    described = _manifest(settings, manifest, variables)
    contract = read_contract(project_dir, "ml")
    columns = described.ablation_columns(config.features, config.ablation.context)
    comparisons = plan_comparisons(columns, config)
    label = str(project_vars(project_dir, variables).get("label_price", "close"))
    with open_warehouse(project_dir, target) as warehouse:
        warehouse.create_tables(described.results_schema, contract)
        panel = read_panel(
            warehouse,
            described.panel,
            [c.name for c in columns],
            [SEGMENT_COLUMN],
            first_day.date() if first_day else None,
            last_day.date() if last_day else None,
        )
    ablation = run_ablation(
        panel,
        comparisons,
        config,
        label=label,
        git_commit=git_commit(project_dir),
        report=_say,
    )
    write_when_free(
        project_dir,
        target,
        _WAIT_SECONDS,
        _say,
        lambda warehouse: write_ablation(warehouse, described.results_schema, contract, ablation),
    )
    click.echo("With the family less without it, and 95 % intervals:")
    click.echo(ablation_table(ablation))
    for warning in ablation.warnings:
        click.echo(f"warning: {warning}")
    click.echo(f"ablation {ablation.ablation_id}: {ablation.rows.num_rows} rows in ml.ablations")


def tune_table(past: Sequence[Past], objective: str, shown: int = 10) -> str:
    """The best trials of a study, and the one of the parameters as they stood."""
    known = [p for p in past if p.objective is not None]
    order = sorted(known, key=lambda p: (-(p.objective or 0.0), p.number))
    chosen = order[:shown] + [p for p in order[shown:] if p.number == 0]

    def cell(value: Any) -> str:
        return f"{value:.4g}" if isinstance(value, float) else str(value)

    rows = [
        [
            str(p.number),
            f"{p.objective:.4f}",
            "-" if p.rank_ic is None else f"{p.rank_ic:.4f}",
            ", ".join(f"{k} {cell(v)}" for k, v in p.choices.items()) or "parameters as they stand",
        ]
        for p in chosen
    ]
    return text_table(["trial", objective, "Rank IC", "choices"], rows, left=4)


@click.command("tune")
@_dbt_options
@_config_option
@click.option("--trials", type=int, default=None, help="Of the whole study (default: model.yml).")
@click.option("--minutes", type=float, default=None, help="Begin no trial that would end later.")
@click.option(
    "--out",
    type=click.Path(dir_okay=False, path_type=Path),
    default=None,
    help="File for the best parameters (default: outputs/tuned_<study>.yml).",
)
@click.pass_obj
def tune_command(
    settings: dict[str, Any],
    *,
    manifest: Path | None,
    variables: str | None,
    config_file: Path | None,
    trials: int | None,
    minutes: float | None,
    out: Path | None,
) -> None:
    """Look for better parameters before the first test session; goes on where it was stopped."""
    project_dir, target = settings["project_dir"], settings["target"]
    config = read_config(config_file)
    described = _manifest(settings, manifest, variables)
    features, schema = described.features(config.features), described.results_schema
    contract = read_contract(project_dir, "ml")
    label = str(project_vars(project_dir, variables).get("label_price", "close"))
    with open_warehouse(project_dir, target) as warehouse:
        warehouse.create_tables(schema, contract)
        panel = read_panel(warehouse, described.panel, features, _evaluation_columns(config))
        data = inner_data(panel, config)
        study_id = make_study_id(data, config, features, label)
        past = read_past(warehouse, schema, study_id)
    inner = data.panel
    _say(
        f"{study_id}: {len(inner):,} rows through {inner.label_end_date.max()}, "
        f"{len(data.plan.folds)} inner folds, {len(past)} trials done"
    )

    def write(rows: Callable[[Warehouse], object]) -> None:
        write_when_free(project_dir, target, _WAIT_SECONDS, _say, rows)

    def keep(warehouse: Warehouse, trial: Trial, outcome: Outcome) -> None:
        with warehouse.transaction():
            complete(warehouse, schema, contract, trial, outcome)

    past = run_study(
        data,
        lambda choices: read_config(config_file, choices),
        study_id,
        past,
        Keeper(
            begin=lambda trial: write(lambda w: begin(w, schema, contract, trial)),
            complete=lambda trial, outcome: write(lambda w: keep(w, trial, outcome)),
            fail=lambda trial, error: write(lambda w: fail(w, schema, contract, trial, error)),
        ),
        trials=trials or config.tune.trials,
        minutes=minutes,
        label=label,
        git_commit=git_commit(project_dir),
        report=_say,
    )
    best = best_of(past)
    if best is None:
        raise AsxwError(
            f"No trial of {study_id} completed; ml.trials has the error of each. "
            "Look at tune.space in the model parameters."
        )
    with open_warehouse(project_dir, target, read_only=True) as warehouse:
        judged = read_judged(warehouse, schema, study_id, best.number)
    click.echo(tune_table(past, config.tune.objective))
    click.echo(f"\nOf trial {best.number}: {luck_line(judged)}")
    path = out or project_dir / "outputs" / f"tuned_{study_id}.yml"
    path.parent.mkdir(parents=True, exist_ok=True)
    text = yaml.safe_dump(lay_choices(read_overlay(config_file), best.choices), sort_keys=False)
    path.write_text(f"# trial {best.number} of {study_id}\n{text}", encoding="utf-8")
    click.echo(
        f"The best of {len(past)} trials is trial {best.number}; expect less of it on sessions it "
        f"was not chosen on. asxw train --config {path}"
    )


@click.command("score")
@_dbt_options
@_config_option
@_artifacts_option
@click.option(
    "--run",
    "run_id",
    default=None,
    help="Run to score with (default: the champion, or the newest).",
)
@click.option(
    "--as-of",
    type=click.DateTime(["%Y-%m-%d"]),
    default=None,
    help="Score the latest session on or before this day (default: the latest of all).",
)
@click.option(
    "--backfill",
    nargs=2,
    type=click.DateTime(["%Y-%m-%d"]),
    default=None,
    metavar="FROM TO",
    help="Score every session from FROM through TO.",
)
@click.option(
    "--reasons",
    type=click.IntRange(min=0),
    default=5,
    show_default=True,
    help="Features named per symbol and model, for the last session scored; 0: none, in less time.",
)
@click.pass_obj
def score_command(
    settings: dict[str, Any],
    *,
    manifest: Path | None,
    variables: str | None,
    config_file: Path | None,
    artifacts: Path | None,
    run_id: str | None,
    as_of: datetime | None,
    backfill: tuple[datetime, datetime] | None,
    reasons: int,
) -> None:
    """Score the latest session with the champion, or with the newest run where there is none."""
    project_dir = settings["project_dir"]
    config = read_config(config_file)
    described = _manifest(settings, manifest, variables)
    contract = read_contract(project_dir, "ml")
    day: date | None = as_of.date() if as_of else None
    if as_of and backfill:
        raise AsxwError("--as-of names one session and --backfill many: give one of them.")
    promoted = champion(project_dir, config.model_name)
    with open_warehouse(project_dir, settings["target"]) as warehouse:
        schema = described.results_schema
        model_name, found = find_run(warehouse, schema, run_id, config.model_name, promoted, _say)
        artifact = load_artifact(artifacts or project_dir / "artifacts", model_name, found)
        check_features(artifact.card, _described_features(described))
        daily = described.features_daily
        if backfill:
            sessions = sessions_between(warehouse, daily, *(d.date() for d in backfill))
        else:
            sessions = [session_to_score(warehouse, daily, day)]
        warehouse.create_tables(schema, contract)
        scored = [
            score(warehouse, daily, artifact, s, config.num_threads, reasons * (s == sessions[-1]))
            for s in sessions
        ]
        write_scores(warehouse, schema, contract, *scored)
    session, scores = sessions[-1], scored[-1]
    if backfill:
        click.echo(f"{len(sessions)} sessions scored, {sessions[0]} through {sessions[-1]}.")
    order = pc.sort_indices(
        scores.rows, sort_keys=[("expected_return", "descending"), ("symbol", "ascending")]
    )
    top = scores.rows.take(order[:10]).to_pylist()
    who = "the champion" if promoted and promoted.run_id == found else "run"
    click.echo(f"{scores.rows.num_rows} symbols scored for {session} with {who} {found}. Highest:")
    why = _largest_parts(scores)
    rows = [
        [r["symbol"], f"{r['probability_up']:.4f}", f"{r['expected_return']:+.4f}",
         *([why[r["symbol"]]] if why else [])]
        for r in top
    ]  # fmt: skip
    header = ["symbol", "probability up", "expected return", *(["largest parts"] if why else [])]
    click.echo(text_table(header, rows, left=0))


def _largest_parts(scores: Scores) -> dict[str, str]:
    """The three features that moved a symbol's expected return most, with their sign."""
    found: dict[str, list[str]] = {}
    for row in scores.reasons.to_pylist() if scores.reasons is not None else []:
        if row["head"] == REGRESSOR and row["part"] == FEATURE and row["place"] <= 3:
            sign = "+" if row["contribution"] > 0 else "-"
            found.setdefault(row["symbol"], []).append(sign + row["feature"])
    return {symbol: " ".join(parts) for symbol, parts in found.items()}


@click.command("promote")
@click.argument("run_id")
@_dbt_options
@_config_option
@_artifacts_option
@click.option("--reason", required=True, help="Why this run is to score from now on.")
@click.option("--by", default=None, help="Who promotes (default: the user of this machine).")
@click.pass_obj
def promote_command(
    settings: dict[str, Any],
    *,
    run_id: str,
    manifest: Path | None,
    variables: str | None,
    config_file: Path | None,
    artifacts: Path | None,
    reason: str,
    by: str | None,
) -> None:
    """Make RUN_ID the champion: open its sealed holdout once and add its line to the seed."""
    project_dir = settings["project_dir"]
    config = read_config(config_file)
    described = _manifest(settings, manifest, variables)
    contract = read_contract(project_dir, "ml")
    check_shared(config.evaluation, project_vars(project_dir, variables))
    schema = described.results_schema
    with open_warehouse(project_dir, settings["target"]) as warehouse:
        warehouse.create_tables(schema, contract)
        find_run(warehouse, schema, run_id)
        (run,) = warehouse.read_arrow(
            f'select * from "{schema}"."runs" where run_id = ?', (run_id,)
        ).to_pylist()
        panel = read_panel(
            warehouse,
            described.panel,
            described.features(config.features),
            _evaluation_columns(config),
        )
        before = champion(project_dir, run["model_name"])
        entry = promote(
            warehouse,
            schema,
            contract,
            project_dir=project_dir,
            artifacts=artifacts or project_dir / "artifacts",
            run=run,
            panel=panel,
            config=config,
            by=by or getpass.getuser(),
            reason=reason,
            report=_say,
        )
        shown = [entry.run_id] + ([before.run_id] if before else [])
        rows = side_by_side_metrics(warehouse, schema, shown)
    titles = ["champion"] + (["champion before"] if before else [])
    click.echo(text_table(["rows", "segment", "statistic", *titles], rows, left=3))
    click.echo(f"{entry.run_id} is in {SEED}. Review the line and commit it.")


@contextmanager
def _run_source(
    settings: dict[str, Any], manifest: Path | None, variables: str | None,
    config_file: Path | None, run_id: str | None,
) -> Iterator[tuple[Source, str]]:  # fmt: skip
    """The run named, else the champion, else the newest; and which data it is of."""
    project_dir = settings["project_dir"]
    config = read_config(config_file)
    described = _manifest(settings, manifest, variables)
    promoted = champion(project_dir, config.model_name)
    with open_warehouse(project_dir, settings["target"], read_only=True) as warehouse:
        schema = described.results_schema
        _, found = find_run(warehouse, schema, run_id, config.model_name, promoted, _say)
        marts = described.features_daily.schema
        data = data_name(warehouse, project_vars(project_dir, variables))
        yield Source(warehouse, schema, marts, found, config.evaluation.segments), data


@click.command("report")
@_dbt_options
@_config_option
@_run_option
@click.option(
    "--out",
    type=click.Path(dir_okay=False, path_type=Path),
    default=None,
    help="File to write (default: outputs/report_<run>.html).",
)
@click.pass_obj
def report_command(
    settings: dict[str, Any],
    *,
    manifest: Path | None,
    variables: str | None,
    config_file: Path | None,
    run_id: str | None,
    out: Path | None,
) -> None:
    """Write a run's report: one HTML page that needs no network."""
    with _run_source(settings, manifest, variables, config_file, run_id) as (source, data):
        page = render(source, data)
        path = out or settings["project_dir"] / "outputs" / f"report_{source.run_id}.html"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(page, encoding="utf-8")
    click.echo(f"{path}: {len(page.encode()) / 1e6:.1f} MB")


@click.command("model-card")
@_dbt_options
@_config_option
@_run_option
@click.option(
    "--out",
    type=click.Path(dir_okay=False, path_type=Path),
    default=None,
    help="File to write (default: docs/model_card.md).",
)
@click.pass_obj
def model_card_command(
    settings: dict[str, Any],
    *,
    manifest: Path | None,
    variables: str | None,
    config_file: Path | None,
    run_id: str | None,
    out: Path | None,
) -> None:
    """Write a run's model card: what it is for, what it reached, where it fails."""
    project_dir = settings["project_dir"]
    with _run_source(settings, manifest, variables, config_file, run_id) as (source, data):
        card = render_card(source, data)
        found = source.run_id
    path = out or project_dir / "docs" / "model_card.md"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(card, encoding="utf-8")
    click.echo(f"{path}: run {found}")


@click.command("export")
@_dbt_options
@_config_option
@click.option("--out", type=_FOLDER, default=None, help="Folder to write to (default: outputs/).")
@click.pass_obj
def export_command(
    settings: dict[str, Any],
    *,
    manifest: Path | None,
    variables: str | None,
    config_file: Path | None,
    out: Path | None,
) -> None:
    """Write the training panel to Parquet with a manifest of its content."""
    project_dir = settings["project_dir"]
    described = _manifest(settings, manifest, variables)
    features = described.features(read_config(config_file).features)
    with open_warehouse(project_dir, settings["target"], read_only=True) as warehouse:
        files = export_panel(warehouse, described.panel, features, out or project_dir / "outputs")
    click.echo(
        f"{files.content['rows']:,} rows, {files.content['symbols']} symbols, "
        f"{files.content['first_trade_date']}..{files.content['last_trade_date']}: {files.dated}"
    )
