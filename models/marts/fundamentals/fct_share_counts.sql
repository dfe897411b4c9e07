with share_counts as (

    select * from {{ ref('int_share_counts') }}

)

select
    security_id,
    available_at,
    symbol,
    period_end,
    cast(shares_filed as double precision) as shares_filed,
    cast(shares as double precision) as shares,
    cast(shares_aligned as double precision) as shares_aligned,
    case
        when rejected_because is not null then 'rejected'
        when unit != 1 then 'unit repaired'
        else 'as filed'
    end as verdict,
    rejected_because,
    cast(unit as double precision) as unit,
    cast(split_ratio as double precision) as split_ratio,
    cast(split_factor as double precision) as split_factor
from share_counts
where {{ known_by('available_at') }}
