with gates as (

    select * from {{ source('ml', 'gates') }}

)

select
    run_id,
    gate,
    level,
    measure,
    comparison,
    threshold,
    value,
    ci_low,
    ci_high,
    passed,
    note
from gates
