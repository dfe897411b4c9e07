{#
  Every audit on record. An audit speaks for the state of the project it ran on, so the latest one
  is told apart by layer, engine and data.
#}
with audits as (

    select * from {{ ref('stg_audits') }}

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
    details,
    row_number() over (
        partition by layer, target, market
        order by finished_at desc nulls last, audit_id
    ) = 1 as is_newest
from audits
