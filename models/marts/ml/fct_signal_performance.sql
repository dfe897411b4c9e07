{#
  How often each signal was right out of fold: a buy where the share rose, a sell where it did not,
  a hold has no direction. A share of rows is a ratio of two sums over sessions, and a session's part
  in its error is what it holds more than its share (macros/evaluation/interval_half_widths.sql); a signal
  given on fewer than 42 sessions has no interval.
#}
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

counted as (

    select
        run_id,
        segment,
        signal,
        count(*) as n_rows,
        avg(probability_up) as mean_probability,
        avg(cast(return_1m_fwd_sign as double precision)) as share_up,
        avg(return_1m_fwd) as mean_return,
        percentile_cont(0.5) within group (order by return_1m_fwd) as median_return
    from segmented
    group by run_id, segment, signal

),

by_session as (

    select
        run_id,
        segment,
        signal,
        trade_date,
        count(*) as n_rows,
        sum(cast(return_1m_fwd_sign as double precision)) as rises,
        sum(return_1m_fwd) as returns
    from segmented
    group by run_id, segment, signal, trade_date

),

placed as (

    select
        run_id,
        segment,
        signal,
        n_rows,
        rises,
        returns,
        dense_rank() over (partition by run_id, segment order by trade_date) - 1 as place,
        count(*) over (partition by run_id, segment, signal) as sessions_of_signal
    from by_session

),

sessions as (

    select
        run_id,
        segment,
        max(place) + 1 as n_sessions
    from placed
    group by run_id, segment

),

deviations as (

    select
        placed.run_id,
        placed.segment,
        placed.signal,
        placed.place,
        sessions.n_sessions,
        (placed.rises - counted.share_up * placed.n_rows)
        * sessions.n_sessions / counted.n_rows as share_up,
        (placed.returns - counted.mean_return * placed.n_rows)
        * sessions.n_sessions / counted.n_rows as mean_return
    from placed
    inner join sessions
        on placed.run_id = sessions.run_id and placed.segment = sessions.segment
    inner join counted
        on
            placed.run_id = counted.run_id
            and placed.segment = counted.segment
            and placed.signal = counted.signal
    where placed.sessions_of_signal >= 42

),

half_widths as (

    {{ interval_half_widths('deviations', ['run_id', 'segment', 'signal'], ['share_up', 'mean_return']) }}

)

select
    counted.run_id,
    counted.segment,
    counted.signal,
    counted.n_rows,
    counted.n_rows
    / cast(sum(counted.n_rows) over (partition by counted.run_id, counted.segment) as double precision)
        as share_of_rows,
    counted.mean_probability,
    counted.share_up,
    case
        when counted.signal in ('BUY', 'STRONG_BUY') then counted.share_up
        when counted.signal in ('SELL', 'STRONG_SELL') then 1 - counted.share_up
    end as hit_rate,
    case
        when counted.signal in ('BUY', 'STRONG_BUY') then counted.share_up - half_widths.share_up
        when counted.signal in ('SELL', 'STRONG_SELL')
            then 1 - counted.share_up - half_widths.share_up
    end as hit_rate_ci_low,
    case
        when counted.signal in ('BUY', 'STRONG_BUY') then counted.share_up + half_widths.share_up
        when counted.signal in ('SELL', 'STRONG_SELL')
            then 1 - counted.share_up + half_widths.share_up
    end as hit_rate_ci_high,
    counted.mean_return,
    counted.mean_return - half_widths.mean_return as mean_return_ci_low,
    counted.mean_return + half_widths.mean_return as mean_return_ci_high,
    counted.median_return
from counted
left join half_widths
    on
        counted.run_id = half_widths.run_id
        and counted.segment = half_widths.segment
        and counted.signal = half_widths.signal
