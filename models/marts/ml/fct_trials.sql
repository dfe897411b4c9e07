{#
  The ledger of trials. A trial that neither completed nor failed is running, or was killed.
#}
with trials as (

    select * from {{ ref('stg_trials') }}

)

select
    trial_id,
    kind,
    study_id,
    number as trial_number,
    model_name,
    label,
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
    choices_json,
    parameters_json,
    panel_checksum,
    git_commit,
    row_number() over first_attempts = 1 as is_first_attempt
from trials
window
    first_attempts as (
        partition by model_name, label, configuration
        order by started_at nulls last, trial_id
    )
