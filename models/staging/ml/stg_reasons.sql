with reasons as (

    select * from {{ source('ml', 'reasons') }}

)

select
    run_id,
    symbol,
    trade_date,
    head,
    place,
    part,
    feature,
    feature_value,
    value_place,
    contribution,
    reason
from reasons
