{#
  Which sessions each source covers, for saying whether a feature is due and, where it is missing,
  why. Market-wide and in hindsight: the coverage marts read it, no feature does.
#}
{% set series = ['rba_cash_rate', 'cpi_yoy', 'unemployment', 'yield_2y', 'yield_10y'] %}
{% set others = [
    'directory', 'market_cap', 'fundamentals', 'vendor_ratios', 'peer_pe_ratios', 'quoted_prices',
    'announcements', 'price_sensitive', 'short_positions',
] %}

with sessions as (

    select session_idx
    from {{ ref('int_sessions') }}
    where session_status = 'market'

),

directory_daily as (

    select * from {{ ref('int_directory_daily') }}

),

fundamental_daily as (

    select * from {{ ref('int_fundamental_daily') }}

),

fundamental_features as (

    select * from {{ ref('int_fundamental_features') }}

),

macro_daily as (

    select * from {{ ref('int_macro_daily') }}

),

announcement_sessions as (

    select * from {{ ref('int_announcement_sessions') }}

),

short_features as (

    select * from {{ ref('int_short_features') }}

),

sources as (

    {% for name in series + others -%}
        select '{{ name }}' as source_name
        {{ 'union all' if not loop.last }}
    {% endfor %}

),

macro_covered as (

    {% for name in series -%}
        select
            '{{ name }}' as source_name,
            session_idx
        from macro_daily
        where {{ name }} is not null
        {{ 'union all' if not loop.last }}
    {% endfor %}

),

covered as (

    select
        source_name,
        session_idx
    from macro_covered

    union all

    select distinct
        'directory' as source_name,
        session_idx
    from directory_daily

    union all

    select distinct
        'market_cap' as source_name,
        session_idx
    from fundamental_daily
    where market_cap is not null

    union all

    select distinct
        'fundamentals' as source_name,
        session_idx
    from fundamental_daily
    where fund_period_end is not null

    union all

    -- what statements cannot give: does the vendor deliver it?
    select distinct
        'vendor_ratios' as source_name,
        session_idx
    from fundamental_daily
    where debt_to_equity is not null or current_ratio is not null or div_yield is not null

    union all

    -- a small market has too few companies with earnings for a z-score of their pe_ratio
    select distinct
        'peer_pe_ratios' as source_name,
        session_idx
    from fundamental_features
    where pe_ratio_zscore is not null

    union all

    -- a level of the day's quotes does not exist where the vendor adjusted them for later splits
    select
        'quoted_prices' as source_name,
        session_idx
    from sessions
    where {{ 'true' if market_var('price_basis') == 'raw' else 'false' }}

    union all

    select
        'announcements' as source_name,
        session_idx
    from announcement_sessions
    where covered_sessions > 0

    union all

    select
        'price_sensitive' as source_name,
        session_idx
    from announcement_sessions
    where flag_covered_sessions > 0

    union all

    select distinct
        'short_positions' as source_name,
        session_idx
    from short_features
    where short_pct is not null

),

placed as (

    select
        sources.source_name,
        sessions.session_idx,
        covered.session_idx as covered_session_idx,
        min(covered.session_idx) over whole as first_session_idx,
        max(covered.session_idx) over whole as last_session_idx,
        max(case when covered.session_idx is null then sessions.session_idx end) over so_far
            as uncovered_session_idx
    from sources
    cross join sessions
    left join covered
        on
            sources.source_name = covered.source_name
            and sessions.session_idx = covered.session_idx
    window
        whole as (partition by sources.source_name),
        so_far as (
            partition by sources.source_name
            order by sessions.session_idx
            rows between unbounded preceding and current row
        )

)

select
    source_name,
    session_idx,
    case
        when first_session_idx is null then 'absent'
        when covered_session_idx is not null then 'covered'
        when session_idx < first_session_idx then 'before'
        when session_idx > last_session_idx then 'after'
        else 'gap'
    end as source_status,
    -- session 0 is the first there is
    cast(session_idx - coalesce(uncovered_session_idx, -1) as bigint) as covered_sessions
from placed
