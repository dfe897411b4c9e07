with trials as (

    select * from {{ source('ml', 'trials') }}

)

select
    trial_id,
    kind,
    study_id,
    number,
    model_name,
    configuration,
    status,
    error,
    run_id,
    started_at,
    finished_at,
    roc_auc_session,
    rank_ic,
    objective,
    n_sessions,
    first_session,
    last_session,
    horizon,
    label,
    panel_checksum,
    git_commit,
    choices_json,
    parameters_json
from trials
