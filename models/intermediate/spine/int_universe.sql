{#
  Who is ranked and trained on: by kind (a code without reference data is unknown, and kept, because
  dropping codes that died before the directory began is survivorship bias) and by liquidity.
#}
{% set min_adv = var('universe_min_adv_20_median') %}

with daily_grid as (

    select * from {{ ref('int_daily_grid') }}

),

securities as (

    select * from {{ ref('stg_securities') }}

),

liquidity_features as (

    select * from {{ ref('int_liquidity_features') }}

)

select
    daily_grid.spell_key,
    daily_grid.session_idx,
    coalesce(securities.kind, 'unknown') as kind,
    coalesce(securities.kind, 'unknown')
    in ({{ quoted_list(var('universe_kinds')) }}) as is_universe_kind,
    {% if min_adv > 0 -%}
        coalesce(liquidity_features.adv_20_median >= {{ min_adv }}, false)
    {%- else -%}
        true
    {%- endif %} as is_liquid_enough
from daily_grid
inner join liquidity_features
    on
        daily_grid.spell_key = liquidity_features.spell_key
        and daily_grid.session_idx = liquidity_features.session_idx
left join securities
    on daily_grid.symbol = securities.symbol
