{#
  How often each signal was right out of fold: a buy where the share rose, a sell where it did not,
  a hold has no direction.
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

)

select
    run_id,
    segment,
    signal,
    n_rows,
    n_rows / cast(sum(n_rows) over (partition by run_id, segment) as double precision)
        as share_of_rows,
    mean_probability,
    share_up,
    case
        when signal in ('BUY', 'STRONG_BUY') then share_up
        when signal in ('SELL', 'STRONG_SELL') then 1 - share_up
    end as hit_rate,
    mean_return,
    median_return
from counted
