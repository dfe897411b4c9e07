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
    {{ finite('sentiment') }} as sentiment,
    {{ finite('confidence') }} as confidence
from announcements
where {{ known_by('announced_at') }}
