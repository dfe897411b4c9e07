{#
  Cross-sectional values: within a session, over its members (int_universe), and only those rows have
  one.
#}
{{ config(pre_hook="{{ join_in_key_order(small_tables=false) }}") }}
{% set ranked = ['mom_1', 'mom_12_1', 'vol_60', 'adv_20_median', 'market_cap'] %}

with universe as (

    select * from {{ ref('int_universe') }}

),

momentum_features as (

    select * from {{ ref('int_momentum_features') }}

),

volatility_features as (

    select * from {{ ref('int_volatility_features') }}

),

liquidity_features as (

    select * from {{ ref('int_liquidity_features') }}

),

fundamental_daily as (

    select * from {{ ref('int_fundamental_daily') }}

),

members as (

    select
        universe.spell_key,
        universe.session_idx,
        universe.sector,
        momentum_features.mom_1,
        momentum_features.mom_12_1,
        -- volatilities that are equal but for rounding, like those of shares that moved by the same
        -- ticks, are a tie
        floor(volatility_features.vol_60 * 1e12 + 0.5) as vol_60,
        liquidity_features.adv_20_median,
        fundamental_daily.market_cap
    from universe
    inner join momentum_features
        on
            universe.spell_key = momentum_features.spell_key
            and universe.session_idx = momentum_features.session_idx
    inner join volatility_features
        on
            universe.spell_key = volatility_features.spell_key
            and universe.session_idx = volatility_features.session_idx
    inner join liquidity_features
        on
            universe.spell_key = liquidity_features.spell_key
            and universe.session_idx = liquidity_features.session_idx
    left join fundamental_daily
        on
            universe.spell_key = fundamental_daily.spell_key
            and universe.session_idx = fundamental_daily.session_idx
    where universe.is_member
    {{ in_session_order(['universe.session_idx', 'universe.sector']) }}

),

sector_medians as (

    select
        session_idx,
        sector,
        percentile_cont(0.5) within group (order by mom_1) as median_mom_1
    from members
    where sector is not null and mom_1 is not null
    group by session_idx, sector
    having count(*) >= {{ var('sector_min_members') }}

)

select
    members.spell_key,
    members.session_idx,
    members.mom_1 - sector_medians.median_mom_1 as sector_rel_mom_1,
    {{ cross_sectional_rank('members', 'mom_1') }} as mom_1_rank,
    {{ cross_sectional_rank('members', 'mom_12_1') }} as mom_12_1_rank,
    {{ cross_sectional_rank('members', 'vol_60') }} as vol_60_rank,
    {{ cross_sectional_rank('members', 'adv_20_median') }} as adv_20_rank,
    {{ cross_sectional_rank('members', 'market_cap') }} as size_rank
from {{ with_ranks('members', ranked) }}
left join sector_medians
    on
        members.session_idx = sector_medians.session_idx
        and members.sector = sector_medians.sector
{{ in_key_order() }}
