-- not materialized: Postgres would copy the whole panel to find its last day
with features_daily as not materialized (

    select * from {{ ref('fct_features_daily') }}

),

latest_session as (

    select max(trade_date) as trade_date
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
    on features_daily.trade_date = latest_session.trade_date
