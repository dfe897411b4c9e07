{#
  The statistics of a run over many sessions, from the predictions as they were written: the twin of
  ml.metrics, and a test holds the two together to 1e-9. Errors limited at the winsor limits, and
  intervals, are Python's alone; rank_ic_lag1 is SQL's.
#}
{% set of_rows = ['roc_auc_pooled', 'brier', 'brier_skill', 'log_loss', 'base_rate', 'rmse', 'mae'] %}
{% set of_sessions = {
    'roc_auc_session': 'roc_auc', 'rank_ic': 'rank_ic', 'rank_ic_lag1': 'rank_ic_lag1',
    'pearson_ic': 'pearson_ic',
    'decile_spread': 'decile_spread', 'decile_spread_net': 'decile_spread_net'
} %}

with predictions as (

    select * from {{ ref('int_evaluated_predictions') }}

),

session_metrics as (

    select * from {{ ref('fct_session_metrics') }}

),

-- what the base rate of the training rows would have predicted
training_folds as (

    select
        run_id,
        fold,
        n_positive / cast(n_rows as double precision) as training_base_rate
    from {{ ref('stg_model_folds') }}
    where role = 'train'

),

judged as (

    select
        predictions.run_id,
        predictions.fold,
        predictions.adv_20_median,
        predictions.probability_up,
        predictions.return_1m_fwd_sign as up,
        predictions.expected_return - predictions.return_1m_fwd as return_error,
        (predictions.probability_up - predictions.return_1m_fwd_sign)
        * (predictions.probability_up - predictions.return_1m_fwd_sign) as squared_error,
        (training_folds.training_base_rate - predictions.return_1m_fwd_sign)
        * (training_folds.training_base_rate - predictions.return_1m_fwd_sign)
            as base_squared_error,
        -ln(
            case
                when predictions.return_1m_fwd_sign = 1
                    then greatest(least(predictions.probability_up, 1 - 1e-15), 1e-15)
                else 1 - greatest(least(predictions.probability_up, 1 - 1e-15), 1e-15)
            end
        ) as log_loss
    from predictions
    left join training_folds
        on predictions.run_id = training_folds.run_id and predictions.fold = training_folds.fold

),

segmented as (

    select
        'all' as segment,
        judged.*
    from judged
    {% for tier, least in var('liquidity_tiers').items() %}
        union all
        select
            '{{ tier }}' as segment,
            judged.*
        from judged
        where adv_20_median >= {{ least }}
    {% endfor %}

),

-- every row counts in its fold, and in fold 0, which is all of them
scoped as (

    {% for scope in ['0', 'fold'] -%}
        select
            run_id,
            segment,
            {{ scope }} as scope,
            probability_up,
            up,
            return_error,
            squared_error,
            base_squared_error,
            log_loss
        from segmented
        {{ 'union all' if not loop.last }}
    {% endfor %}

),

ranked as (

    select
        scoped.*,
        cast(count(*) over the_scope as double precision) as rows_of_scope,
        -- ties at their average: the first rank of the peers, and half of what follows
        rank() over by_probability
        + (count(*) over same_probability - 1) / cast(2 as double precision) as probability_rank
    from scoped
    window
        the_scope as (partition by run_id, segment, scope),
        by_probability as (partition by run_id, segment, scope order by probability_up),
        same_probability as (partition by run_id, segment, scope, probability_up)

),

binned as (

    select
        run_id,
        segment,
        scope,
        {{ calibration_bin('probability_rank', 'rows_of_scope') }} as bin,
        count(*) as n_rows,
        abs(sum(probability_up - up)) as miss
    from ranked
    group by
        run_id,
        segment,
        scope,
        {{ calibration_bin('probability_rank', 'rows_of_scope') }}

),

calibration as (

    select
        run_id,
        segment,
        scope,
        sum(n_rows) as n,
        sum(miss) / cast(sum(n_rows) as double precision) as calibration_error
    from binned
    group by run_id, segment, scope

),

counted as (

    select
        run_id,
        segment,
        scope,
        count(*) as n,
        cast(sum(up) as double precision) as positives,
        cast(count(*) - sum(up) as double precision) as negatives,
        sum(case when up = 1 then probability_rank end) as positive_ranks,
        avg(squared_error) as brier,
        1 - sum(squared_error) / nullif(sum(base_squared_error), 0) as brier_skill,
        avg(log_loss) as log_loss,
        avg(cast(up as double precision)) as base_rate,
        sqrt(avg(return_error * return_error)) as rmse,
        avg(abs(return_error)) as mae
    from ranked
    group by run_id, segment, scope

),

row_statistics as (

    select
        counted.*,
        (counted.positive_ranks - counted.positives * (counted.positives + 1) / 2)
        / nullif(counted.positives * counted.negatives, 0) as roc_auc_pooled
    from counted

),

scoped_sessions as (

    {% for scope in ['0', 'fold'] -%}
        select
            run_id,
            segment,
            {{ scope }} as scope,
            roc_auc,
            rank_ic,
            rank_ic_lag1,
            pearson_ic,
            decile_spread,
            decile_spread_net
        from session_metrics
        {{ 'union all' if not loop.last }}
    {% endfor %}

),

session_statistics as (

    select
        run_id,
        segment,
        scope,
        {% for metric, column in of_sessions.items() -%}
            avg({{ column }}) as {{ metric }},
            count({{ column }}) as n_{{ metric }},
        {% endfor -%}
        stddev_samp(rank_ic) as rank_ic_std,
        avg(rank_ic) / nullif(stddev_samp(rank_ic), 0) as rank_ic_ir
    from scoped_sessions
    group by run_id, segment, scope

),

measured as (

    {% for metric in of_rows %}
        select
            run_id,
            segment,
            scope,
            '{{ metric }}' as metric,
            {{ metric }} as metric_value,
            n
        from row_statistics
        union all
    {% endfor %}
    select
        run_id,
        segment,
        scope,
        'calibration_error' as metric,
        calibration_error as metric_value,
        n
    from calibration
    {% for metric in of_sessions %}
        union all
        select
            run_id,
            segment,
            scope,
            '{{ metric }}' as metric,
            {{ metric }} as metric_value,
            n_{{ metric }} as n
        from session_statistics
    {% endfor %}
    {% for metric in ['rank_ic_std', 'rank_ic_ir'] %}
        union all
        select
            run_id,
            segment,
            scope,
            '{{ metric }}' as metric,
            {{ metric }} as metric_value,
            n_rank_ic as n
        from session_statistics
    {% endfor %}
    union all
    select
        row_statistics.run_id,
        row_statistics.segment,
        row_statistics.scope,
        'auc_gap' as metric,
        row_statistics.roc_auc_pooled - session_statistics.roc_auc_session as metric_value,
        row_statistics.n
    from row_statistics
    inner join session_statistics
        on
            row_statistics.run_id = session_statistics.run_id
            and row_statistics.segment = session_statistics.segment
            and row_statistics.scope = session_statistics.scope

)

select
    run_id,
    cast(scope as bigint) as fold,
    segment,
    metric,
    metric_value as value,
    cast(n as bigint) as n
from measured
where metric_value is not null
