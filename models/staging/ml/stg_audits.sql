with audits as (

    select * from {{ source('ml', 'audits') }}

)

select
    audit_id,
    layer,
    target,
    market,
    run_id,
    git_commit,
    project_checksum,
    started_at,
    finished_at,
    passed,
    checked,
    differences,
    summary,
    details
from audits
