with index_levels as (

    select * from {{ source('raw', 'index_levels') }}

)

select
    index_code,
    trade_date,
    {{ finite('close') }} as close
from index_levels
where {{ known_by(decision_at('trade_date')) }}
