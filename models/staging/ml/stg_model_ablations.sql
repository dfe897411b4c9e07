with ablations as (

    select * from {{ source('ml', 'ablations') }}

)

select
    ablation_id,
    created_at,
    kind,
    family,
    segment,
    fold,
    metric,
    value_with,
    value_without,
    delta,
    ci_low,
    ci_high,
    n,
    n_features,
    n_folds,
    n_rows,
    first_session,
    last_session,
    label,
    panel_checksum,
    git_commit,
    parameters_json
from ablations
