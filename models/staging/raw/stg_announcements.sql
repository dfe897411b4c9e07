with announcements as (

    select * from {{ source('raw', 'announcements') }}

)

select
    {{ normalise_symbol('symbol') }} as symbol,
    announced_at,
    headline,
    sequence,
    pages,
    price_sensitive,
    -- a score outside its scale is none; NaN is outside every range
    case when sentiment between -1 and 1 then sentiment end as sentiment,
    case when confidence between 0 and 1 then confidence end as confidence
from announcements
where {{ known_by('announced_at') }}
