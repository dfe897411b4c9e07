{#
  What each row of the grid counts as: its sector as known then, and whether it is ranked and trained
  on, by kind (a code without reference data is unknown, and kept, because dropping codes that died
  before the directory began is survivorship bias) and by liquidity. Members of a session, which
  everything cross-sectional is taken over, are those of the universe that were traded.
#}
{{ config(pre_hook="{{ join_in_key_order() }}") }}
{% set min_adv = var('universe_min_adv_20_median') %}
{% if execute and min_adv > 0 and market_var('price_basis') != 'raw' %}
    {{ exceptions.raise_compiler_error(
        "var universe_min_adv_20_median is " ~ min_adv ~ ", but a market of split-adjusted prices has no "
        ~ "adv_20_median: nothing would be in the universe. Set it to 0."
    ) }}
{% endif %}

with daily_grid as (

    select * from {{ ref('int_daily_grid') }}

),

securities as (

    select * from {{ ref('stg_securities') }}

),

sector_versions as (

    select * from {{ ref('int_sector_versions') }}

),

liquidity_features as (

    select * from {{ ref('int_liquidity_features') }}

),

judged as (

    select
        daily_grid.spell_key,
        daily_grid.session_idx,
        daily_grid.is_traded,
        coalesce(securities.kind, 'unknown') as kind,
        sector_versions.sector,
        sector_versions.available_at as sector_available_at,
        coalesce(securities.kind, 'unknown') in ({{ quoted_list(var('universe_kinds')) }})
        {%- if min_adv > 0 %}
            and coalesce(liquidity_features.adv_20_median >= {{ min_adv }}, false)
        {%- endif %} as is_in_universe
    from daily_grid
    inner join liquidity_features
        on
            daily_grid.spell_key = liquidity_features.spell_key
            and daily_grid.session_idx = liquidity_features.session_idx
    left join securities
        on daily_grid.symbol = securities.symbol
    left join sector_versions
        on
            daily_grid.security_id = sector_versions.security_id
            and daily_grid.session_idx >= sector_versions.from_session_idx
            and (
                daily_grid.session_idx < sector_versions.before_session_idx
                or sector_versions.before_session_idx is null
            )

)

select
    spell_key,
    session_idx,
    kind,
    sector,
    sector_available_at,
    is_in_universe,
    is_in_universe and is_traded as is_member
from judged
