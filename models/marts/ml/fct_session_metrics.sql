{#
  The statistics per session that SQL can compute exactly, from the predictions as they were written:
  the twin of ml.session_metrics, and a test holds the two together to 1e-9. What is left for who buys
  a session later (rank_ic_lag1) is SQL's alone.
#}
{% set minimum_rows = var('session_minimum_rows') %}

with predictions as (

    select * from {{ ref('int_evaluated_predictions') }}

),

segmented as (

    select
        'all' as segment,
        predictions.*
    from predictions
    {% for tier, least in var('liquidity_tiers').items() %}
        union all
        select
            '{{ tier }}' as segment,
            predictions.*
        from predictions
        where adv_20_median >= {{ least }}
    {% endfor %}

),

ranked as (

    select
        run_id,
        segment,
        trade_date,
        session_idx,
        fold,
        return_1m_fwd,
        return_1m_fwd_sign,
        return_1m_fwd_lag1,
        expected_return,
        side_cost,
        (probability_up - return_1m_fwd_sign) * (probability_up - return_1m_fwd_sign)
            as squared_error,
        count(*) over the_session as rows_of_session,
        -- ties at their average: the first rank of the peers, and half of what follows
        rank() over by_probability
        + (count(*) over same_probability - 1) / cast(2 as double precision) as probability_rank,
        rank() over by_expectation
        + (count(*) over same_expectation - 1) / cast(2 as double precision) as expectation_rank,
        rank() over by_return
        + (count(*) over same_return - 1) / cast(2 as double precision) as return_rank,
        -- among the rows whose later return is known, which are nearly all
        rank() over by_expectation_later
        + (count(*) over same_expectation_later - 1) / cast(2 as double precision)
            as expectation_rank_later,
        rank() over by_return_later
        + (count(*) over same_return_later - 1) / cast(2 as double precision) as return_rank_later
    from segmented
    window
        the_session as (partition by run_id, segment, trade_date),
        by_probability as (partition by run_id, segment, trade_date order by probability_up),
        same_probability as (partition by run_id, segment, trade_date, probability_up),
        by_expectation as (partition by run_id, segment, trade_date order by expected_return),
        same_expectation as (partition by run_id, segment, trade_date, expected_return),
        by_return as (partition by run_id, segment, trade_date order by return_1m_fwd),
        same_return as (partition by run_id, segment, trade_date, return_1m_fwd),
        by_expectation_later as (
            partition by run_id, segment, trade_date, return_1m_fwd_lag1 is null
            order by expected_return
        ),
        same_expectation_later as (
            partition by run_id, segment, trade_date, return_1m_fwd_lag1 is null, expected_return
        ),
        by_return_later as (
            partition by run_id, segment, trade_date, return_1m_fwd_lag1 is null
            order by return_1m_fwd_lag1
        ),
        same_return_later as (partition by run_id, segment, trade_date, return_1m_fwd_lag1)

),

placed as (

    select
        ranked.*,
        (ranked.expectation_rank - 0.5) / ranked.rows_of_session >= 0.9 as is_top,
        (ranked.expectation_rank - 0.5) / ranked.rows_of_session <= 0.1 as is_bottom
    from ranked

),

summed as (

    select
        run_id,
        segment,
        trade_date,
        min(session_idx) as session_idx,
        min(fold) as fold,
        count(*) as n_rows,
        cast(sum(return_1m_fwd_sign) as double precision) as positives,
        cast(count(*) - sum(return_1m_fwd_sign) as double precision) as negatives,
        sum(case when return_1m_fwd_sign = 1 then probability_rank end) as positive_ranks,
        corr(expectation_rank, return_rank) as rank_correlation,
        corr(expected_return, return_1m_fwd) as correlation,
        count(return_1m_fwd_lag1) as later_rows,
        corr(
            case when return_1m_fwd_lag1 is not null then expectation_rank_later end,
            case when return_1m_fwd_lag1 is not null then return_rank_later end
        ) as later_rank_correlation,
        avg(squared_error) as brier,
        avg(case when is_top then return_1m_fwd end)
        - avg(case when is_bottom then return_1m_fwd end) as decile_spread,
        avg(case when is_top then return_1m_fwd - 2 * side_cost end)
        - avg(case when is_bottom then return_1m_fwd + 2 * side_cost end) as decile_spread_net
    from placed
    group by run_id, segment, trade_date

)

select
    run_id,
    segment,
    trade_date,
    session_idx,
    fold,
    n_rows,
    (positive_ranks - positives * (positives + 1) / 2) / nullif(positives * negatives, 0)
        as roc_auc,
    {{ finite('rank_correlation') }} as rank_ic,
    case when later_rows >= {{ minimum_rows }} then {{ finite('later_rank_correlation') }} end
        as rank_ic_lag1,
    {{ finite('correlation') }} as pearson_ic,
    brier,
    decile_spread,
    decile_spread_net
from summed
where n_rows >= {{ minimum_rows }}
