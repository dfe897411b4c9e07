with restatements as (

    select * from {{ ref('int_restatements') }}

)

select
    dataset,
    symbol,
    dated_on,
    period_type,
    column_name,
    available_at,
    previous_available_at,
    previous_value,
    new_value,
    relative_change
from restatements
