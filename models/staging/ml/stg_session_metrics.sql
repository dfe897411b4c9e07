with session_metrics as (

    select * from {{ source('ml', 'session_metrics') }}

)

select
    run_id,
    predictor,
    segment,
    trade_date,
    session_idx,
    fold,
    metric,
    value,
    n_rows
from session_metrics
