{#
  What of a trial's decile spread may be luck. A year has 252 sessions.
#}
with overfitting as (

    select * from {{ ref('stg_overfitting') }}

),

trials as (

    select * from {{ ref('stg_trials') }}

)

select
    overfitting.trial_id,
    trials.kind,
    trials.study_id,
    trials.run_id,
    trials.model_name,
    trials.label,
    trials.first_session,
    trials.last_session,
    overfitting.n_trials,
    overfitting.n_sessions,
    overfitting.n_periods,
    overfitting.mean_spread,
    overfitting.sharpe,
    overfitting.sharpe * sqrt(252 / cast(trials.horizon as double precision)) as sharpe_year,
    overfitting.skewness,
    overfitting.kurtosis,
    overfitting.sharpe_deviation,
    overfitting.sharpe_expected_maximum,
    overfitting.deflated_sharpe,
    case
        when overfitting.deflated_sharpe is null then 'unknown'
        when overfitting.deflated_sharpe >= 0.95 then 'more than luck'
        else 'may be luck'
    end as verdict,
    overfitting.pbo,
    overfitting.pbo_trials,
    overfitting.pbo_blocks,
    overfitting.pbo_splits,
    overfitting.computed_at,
    row_number() over of_the_run = 1 as is_newest
from overfitting
inner join trials
    on overfitting.trial_id = trials.trial_id
window
    of_the_run as (
        partition by coalesce(trials.run_id, trials.trial_id)
        order by trials.started_at desc nulls last, trials.trial_id
    )
