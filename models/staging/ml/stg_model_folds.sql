with folds as (

    select * from {{ source('ml', 'folds') }}

)

select
    run_id,
    fold,
    role,
    first_session,
    last_session,
    first_session_idx,
    last_session_idx,
    last_label_end_idx,
    n_sessions,
    n_rows,
    n_positive,
    n_features
from folds
