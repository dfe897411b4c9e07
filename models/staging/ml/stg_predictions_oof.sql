with predictions_oof as (

    select * from {{ source('ml', 'predictions_oof') }}

)

select
    run_id,
    symbol,
    trade_date,
    fold,
    probability_up,
    expected_return,
    return_1m_fwd,
    return_1m_fwd_sign,
    trained_through
from predictions_oof
