with corporate_actions as (

    select * from {{ source('raw', 'corporate_actions') }}

)

select
    {{ normalise_symbol('symbol') }} as symbol,
    ex_date,
    action,
    available_at,
    {{ finite('ratio') }} as ratio,
    {{ finite('amount') }} as amount
from corporate_actions
where {{ known_by('available_at', 'ex_date') }}
