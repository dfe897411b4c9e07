with permutation_importance as (

    select * from {{ source('ml', 'permutation_importance') }}

)

select
    run_id,
    fold,
    feature,
    auc_loss,
    rank,
    auc,
    n_sessions,
    n_rows
from permutation_importance
