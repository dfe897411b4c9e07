with metrics as (

    select * from {{ source('ml', 'metrics') }}

)

select
    run_id,
    predictor,
    fold,
    segment,
    metric,
    value,
    ci_low,
    ci_high,
    n
from metrics
