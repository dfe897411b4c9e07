-- Labels of a fold's training rows have matured before its test block begins, with the embargo
-- between them: nothing of the test block was known in training.
{% set embargo_sessions = 5 %}

with folds as (

    select * from {{ ref('stg_model_folds') }}

)

select
    training.run_id,
    training.fold,
    training.last_label_end_idx,
    testing.first_session_idx
from folds as training
inner join folds as testing
    on
        training.run_id = testing.run_id
        and training.fold = testing.fold
        and testing.role = 'test'
where
    training.role = 'train'
    and not (training.last_label_end_idx < testing.first_session_idx - {{ embargo_sessions }})
