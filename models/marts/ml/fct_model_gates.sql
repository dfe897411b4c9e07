with gates as (

    select * from {{ ref('stg_model_gates') }}

),

runs as (

    select * from {{ ref('stg_model_runs') }}

)

select
    gates.run_id,
    gates.gate,
    gates.level,
    gates.measure,
    gates.comparison,
    gates.threshold,
    gates.value,
    gates.ci_low,
    gates.ci_high,
    gates.passed,
    gates.note,
    runs.created_at
from gates
inner join runs
    on gates.run_id = runs.run_id
