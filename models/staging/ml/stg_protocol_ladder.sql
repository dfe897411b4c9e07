with protocol_ladder as (

    select * from {{ source('ml', 'protocol_ladder') }}

)

select
    market,
    rung,
    name,
    mistake,
    split,
    todays_fundamentals,
    unknown_is_down,
    market_columns,
    auc,
    session_auc,
    session_auc_ci_low,
    session_auc_ci_high,
    n_rows,
    n_sessions,
    n_folds,
    trees,
    session_stride,
    symbol_stride,
    git_commit,
    created_at
from protocol_ladder
