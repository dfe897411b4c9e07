with headline_sentiment as (

    select * from {{ source('raw', 'headline_sentiment') }}

)

select
    headline,
    scorer,
    {{ finite('sentiment') }} as sentiment,
    {{ finite('confidence') }} as confidence
from headline_sentiment
