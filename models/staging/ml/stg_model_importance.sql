with importance as (

    select * from {{ source('ml', 'importance') }}

)

select
    run_id,
    head,
    fold,
    feature,
    gain,
    gain_share,
    splits,
    rank
from importance
