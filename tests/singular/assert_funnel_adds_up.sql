-- Rows kept by a step are those the step before kept, plus the added, less the lost ones. A step
-- that lost a row without naming a reason fails here.
with funnel as (

    select * from {{ ref('fct_pipeline_funnel') }}

),

steps as (

    select
        step_number,
        sum(case when change = 'kept' then row_count end) as kept_rows,
        coalesce(sum(case when change = 'added' then row_count end), 0) as added_rows,
        coalesce(sum(case when change = 'lost' then row_count end), 0) as lost_rows
    from funnel
    group by step_number

)

select
    steps.step_number,
    previous_steps.kept_rows as rows_before,
    steps.added_rows,
    steps.lost_rows,
    steps.kept_rows
from steps
left join steps as previous_steps
    on steps.step_number = previous_steps.step_number + 1
where
    steps.kept_rows is null
    or (
        steps.step_number > 1
        and coalesce(previous_steps.kept_rows, -1) + steps.added_rows - steps.lost_rows
        != steps.kept_rows
    )
