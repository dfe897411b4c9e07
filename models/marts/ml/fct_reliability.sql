{#
  Predicted against observed probability in the bins of the calibration error that Python computes.
#}
with predictions as (

    select * from {{ ref('int_evaluated_predictions') }}

),

ranked as (

    select
        run_id,
        probability_up,
        return_1m_fwd_sign,
        cast(count(*) over (partition by run_id) as double precision) as rows_of_run,
        rank() over (partition by run_id order by probability_up)
        + (count(*) over (partition by run_id, probability_up) - 1) / cast(2 as double precision)
            as probability_rank
    from predictions

),

binned as (

    select
        run_id,
        probability_up,
        return_1m_fwd_sign,
        cast({{ calibration_bin('probability_rank', 'rows_of_run') }} + 1 as bigint) as bin
    from ranked

)

select
    run_id,
    bin,
    count(*) as n_rows,
    min(probability_up) as lowest_probability,
    max(probability_up) as highest_probability,
    avg(probability_up) as mean_probability,
    avg(cast(return_1m_fwd_sign as double precision)) as share_up,
    avg(probability_up) - avg(cast(return_1m_fwd_sign as double precision)) as gap
from binned
group by run_id, bin
