with overfitting as (

    select * from {{ source('ml', 'overfitting') }}

)

select
    trial_id,
    computed_at,
    n_trials,
    n_sessions,
    n_periods,
    mean_spread,
    sharpe,
    skewness,
    kurtosis,
    sharpe_deviation,
    sharpe_expected_maximum,
    deflated_sharpe,
    pbo,
    pbo_trials,
    pbo_blocks,
    pbo_splits
from overfitting
