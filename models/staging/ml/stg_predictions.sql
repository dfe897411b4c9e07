with predictions as (

    select * from {{ source('ml', 'predictions') }}

)

select
    run_id,
    symbol,
    trade_date,
    probability_up,
    expected_return,
    trained_through
from predictions
