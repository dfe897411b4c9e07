with features_daily as (

    select * from {{ ref('fct_features_daily') }}

),

latest_session as (

    select max(session_idx) as session_idx
    from features_daily

)

select
    {% for column in feature_columns() -%}
        features_daily.{{ column.name }}{{ ',' if not loop.last }}
    {% else -%}
        features_daily.symbol
    {% endfor %}
from features_daily
inner join latest_session
    on features_daily.session_idx = latest_session.session_idx
