{#
  Family fundamental, the part that runs across a session: over its members (int_universe), and only
  those rows have one. What needs no other company is int_fundamental_daily.
#}
{{ config(pre_hook="{{ join_in_key_order(small_tables=false) }}") }}
{% set scored = ['pe_ratio', 'pb_ratio', 'pe_inverse', 'roe', 'current_ratio', 'debt_to_equity'] %}
{% set ranked = ['pe_inverse', 'cheap_book', 'roe', 'profit_margin', 'revenue_growth_yoy'] %}

with universe as (

    select * from {{ ref('int_universe') }}

),

fundamental_daily as (

    select * from {{ ref('int_fundamental_daily') }}

),

members as (

    select
        fundamental_daily.spell_key,
        fundamental_daily.session_idx,
        fundamental_daily.pe_ratio,
        fundamental_daily.pb_ratio,
        -fundamental_daily.pb_ratio as cheap_book,
        fundamental_daily.pe_inverse,
        fundamental_daily.roe,
        fundamental_daily.current_ratio,
        fundamental_daily.debt_to_equity,
        fundamental_daily.profit_margin,
        fundamental_daily.revenue_growth_yoy
    from fundamental_daily
    inner join universe
        on
            fundamental_daily.spell_key = universe.spell_key
            and fundamental_daily.session_idx = universe.session_idx
    where
        universe.is_member
        and fundamental_daily.fund_period_end is not null
    {{ in_session_order(['fundamental_daily.session_idx']) }}

),

limits as (

    select
        session_idx,
        {{ winsor_limits(scored) }}
    from members
    group by session_idx

),

-- before the limits are joined: DuckDB sorts whole rows, once a rank
ranks as (

    select
        members.spell_key,
        members.session_idx,
        {% for column in scored -%}
            members.{{ column }},
        {% endfor -%}
        {{ cross_sectional_rank('members', 'pe_inverse') }} as pe_inverse_rank,
        {{ cross_sectional_rank('members', 'cheap_book') }} as cheap_book_rank,
        {{ cross_sectional_rank('members', 'roe') }} as roe_rank,
        {{ cross_sectional_rank('members', 'profit_margin') }} as margin_rank,
        {{ cross_sectional_rank('members', 'revenue_growth_yoy') }} as growth_rank
    from {{ with_ranks('members', ranked) }}

),

positions as (

    select
        ranks.spell_key,
        ranks.session_idx,
        {% for column in scored -%}
            {{ winsor_position(column, 'ranks', 'limits') }} as {{ column }},
        {% endfor -%}
        ranks.pe_inverse_rank,
        ranks.cheap_book_rank,
        ranks.roe_rank,
        ranks.margin_rank,
        ranks.growth_rank
    from ranks
    inner join limits
        on ranks.session_idx = limits.session_idx

),

moments as (

    select
        session_idx,
        {{ position_moments(scored) }}
    from positions
    group by session_idx

),

standardised as (

    select
        positions.spell_key,
        positions.session_idx,
        {% for column in scored -%}
            {{ winsorised_zscore(column, 'positions', 'moments') }} as {{ column }}_zscore,
        {% endfor -%}
        positions.pe_inverse_rank,
        positions.cheap_book_rank,
        positions.roe_rank,
        positions.margin_rank,
        positions.growth_rank
    from positions
    inner join moments
        on positions.session_idx = moments.session_idx

)

select
    spell_key,
    session_idx,
    pe_ratio_zscore,
    pb_ratio_zscore,
    pe_inverse_zscore,
    {{ mean_of_present(['roe_zscore', 'current_ratio_zscore', '-debt_to_equity_zscore'], 2) }}
        as financial_health_score,
    {{ mean_of_present(['pe_inverse_rank', 'cheap_book_rank', 'roe_rank'], 2) }} as value_score,
    {{ mean_of_present(['roe_rank', 'margin_rank', 'growth_rank'], 2) }} as quality_score
from standardised
{{ in_key_order() }}
