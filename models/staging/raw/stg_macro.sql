with macro as (

    select * from {{ source('raw', 'macro') }}

)

select
    series_id,
    reference_date,
    available_at,
    {{ finite('value') }} as value,
    unit,
    coalesce(is_revised_vintage, false) as is_revised_vintage
from macro
where {{ known_by('available_at') }}
