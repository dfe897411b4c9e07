with holdout_openings as (

    select * from {{ source('ml', 'holdout_openings') }}

)

select
    run_id,
    opened_at,
    opened_by,
    reason,
    first_session,
    last_session,
    n_rows,
    trained_through
from holdout_openings
