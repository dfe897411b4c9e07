{#
  What each load brought, by table: how many rows, and the earliest day that they say something new
  of. Rows of a later day only belong to a new session; others may change sessions that were there.
#}
{% set days = {
    'prices': 'trade_date', 'corporate_actions': 'ex_date', 'directory': 'cast(available_at as date)',
    'fundamentals': 'cast(available_at as date)', 'macro': 'cast(available_at as date)',
    'announcements': 'cast(announced_at as date)', 'short_positions': 'cast(available_at as date)',
    'index_levels': 'trade_date', 'symbol_changes': 'effective_on',
    'securities': "coalesce(listed_on, date '0001-01-01')",
} %}

with
{% for table in days %}
    {{ table }} as (

        select * from {{ source('raw', table) }}

    ),
{% endfor %}

loads as (

    {% for table, day in days.items() -%}
        select
            '{{ table }}' as table_name,
            loaded_at,
            min({{ day }}) as first_day,
            count(*) as rows_loaded
        from {{ table }}
        group by loaded_at
        {{ 'union all' if not loop.last }}
    {% endfor %}

)

select
    table_name,
    loaded_at,
    first_day,
    cast(rows_loaded as bigint) as rows_loaded
from loads
