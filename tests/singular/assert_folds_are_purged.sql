-- Labels of a fold's training rows have matured before its test block begins, with the embargo the run
-- was made with between them: nothing of the test block was known in training. A run that does not say
-- its embargo fails.
with folds as (

    select * from {{ ref('stg_model_folds') }}

),

runs as (

    select
        run_id,
        cast((cast(parameters_json as json) -> 'folds') ->> 'embargo' as bigint) as embargo
    from {{ ref('stg_model_runs') }}

)

select
    training.run_id,
    training.fold,
    training.last_label_end_idx,
    testing.first_session_idx,
    runs.embargo
from folds as training
inner join folds as testing
    on
        training.run_id = testing.run_id
        and training.fold = testing.fold
        and testing.role = 'test'
left join runs
    on training.run_id = runs.run_id
where
    training.role = 'train'
    and not coalesce(training.last_label_end_idx < testing.first_session_idx - runs.embargo, false)
