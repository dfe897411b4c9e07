with runs as (

    select * from {{ source('ml', 'runs') }}

)

select
    run_id,
    model_name,
    created_at,
    trained_through,
    first_session,
    last_session,
    holdout_first_session,
    n_rows,
    n_sessions,
    n_symbols,
    n_features,
    n_folds,
    base_rate,
    label,
    panel_checksum,
    git_commit,
    parameters_json,
    features_json,
    versions_json,
    warnings_json
from runs
