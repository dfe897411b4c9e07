{#
  The history that the snapshot has kept, in the shape of stg_fundamentals. A state is known from when
  the snapshot first saw it, in market time; of a row the vendor has dropped nothing is known any more.
  A vendor that does not name the period gives the one that ends the day its values were seen.

  Off unless it is the source of fundamentals: a plain `dbt run` makes no snapshots.
#}
{{ config(enabled=var('fundamentals_source') == 'snapshot') }}
{% set ratios = [
    'pe_ratio', 'pb_ratio', 'eps', 'roe', 'debt_to_equity', 'market_cap', 'div_yield', 'revenue_growth_yoy',
    'profit_margin', 'current_ratio', 'quick_ratio', 'eps_growth', 'free_cash_flow'
] %}

with states as (

    select * from {{ ref('fundamentals_snapshot') }}

),

dated as (

    select
        *,
        timezone('{{ market_var("timezone") }}', cast(dbt_valid_from as timestamp with time zone))
            as available_at,
        dbt_is_deleted != 'True' as is_there
    from states

)

select
    {{ normalise_symbol('symbol') }} as symbol,
    coalesce(period_end, cast(available_at as date)) as period_end,
    coalesce(period_type, 'ttm') as period_type,
    available_at,
    cast(null as timestamp) as updated_at,
    false as available_at_assumed,
    {% for ratio in ratios -%}
        case when is_there then {{ finite(ratio) }} end as {{ ratio }},
    {% endfor -%}
    cast(null as double precision) as net_income,
    cast(null as double precision) as revenue,
    cast(null as double precision) as equity,
    nullif(trim(sector), '') as sector,
    nullif(trim(industry), '') as industry
from dated
where {{ known_by('available_at') }}
