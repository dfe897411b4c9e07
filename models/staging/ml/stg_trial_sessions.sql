with trial_sessions as (

    select * from {{ source('ml', 'trial_sessions') }}

)

select
    trial_id,
    trade_date,
    session_idx,
    roc_auc,
    rank_ic,
    spread
from trial_sessions
