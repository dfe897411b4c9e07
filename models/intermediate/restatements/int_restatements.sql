{#
  Every value of the past that was changed after it had been known: bars corrected, figures of a
  report restated, macro releases revised, capital changes that became known after they took effect. A figure that a later
  version leaves out or adds is a change as well.
#}
{% set quotes = ['open', 'high', 'low', 'close', 'volume', 'adj_close'] %}
{% set figures = [
    'pe_ratio', 'pb_ratio', 'eps', 'roe', 'debt_to_equity', 'market_cap', 'div_yield', 'revenue_growth_yoy',
    'profit_margin', 'current_ratio', 'quick_ratio', 'eps_growth', 'free_cash_flow', 'net_income', 'revenue',
    'equity', 'total_assets', 'shares_outstanding',
] %}

with price_versions as (

    select * from {{ ref('stg_price_versions') }}

),

fundamentals as (

    select * from {{ ref('stg_fundamentals') }}

),

macro as (

    select * from {{ ref('stg_macro') }}

),

corporate_actions as (

    select * from {{ ref('stg_corporate_actions') }}

),

followed_bars as (

    select
        symbol,
        trade_date,
        available_at,
        {% for name in quotes -%}
            {{ name }},
            lag({{ name }}) over by_knowledge as previous_{{ name }},
        {% endfor -%}
        lag(available_at) over by_knowledge as previous_available_at
    from price_versions
    window
        by_knowledge as (
            partition by symbol, trade_date
            order by available_at, loaded_at
        )

),

followed_reports as (

    select
        symbol,
        period_end,
        period_type,
        available_at,
        {% for name in figures -%}
            {{ name }},
            lag({{ name }}) over by_knowledge as previous_{{ name }},
        {% endfor -%}
        lag(available_at) over by_knowledge as previous_available_at
    from fundamentals
    window
        by_knowledge as (
            partition by symbol, period_end, period_type
            order by available_at, updated_at
        )

),

followed_releases as (

    select
        series_id,
        reference_date,
        available_at,
        value,
        lag(value) over by_knowledge as previous_value,
        lag(available_at) over by_knowledge as previous_available_at
    from macro
    window
        by_knowledge as (
            partition by series_id, reference_date
            order by available_at
        )

),

changes as (

    {% for name in quotes -%}
        select
            'prices' as dataset,
            symbol,
            trade_date as dated_on,
            'day' as period_type,
            '{{ name }}' as column_name,
            previous_available_at,
            available_at,
            previous_{{ name }} as previous_value,
            {{ name }} as new_value
        from followed_bars
        where previous_available_at is not null

        union all

    {% endfor -%}
    {% for name in figures -%}
        select
            'fundamentals' as dataset,
            symbol,
            period_end as dated_on,
            period_type,
            '{{ name }}' as column_name,
            previous_available_at,
            available_at,
            previous_{{ name }} as previous_value,
            {{ name }} as new_value
        from followed_reports
        where previous_available_at is not null

        union all

    {% endfor -%}
    select
        'macro' as dataset,
        series_id as symbol,
        reference_date as dated_on,
        'day' as period_type,
        'value' as column_name,
        previous_available_at,
        available_at,
        previous_value,
        value as new_value
    from followed_releases
    where previous_available_at is not null

    union all

    select
        'corporate_actions' as dataset,
        symbol,
        ex_date as dated_on,
        'day' as period_type,
        'ratio' as column_name,
        cast(null as timestamp) as previous_available_at,
        available_at,
        cast(null as double precision) as previous_value,
        ratio as new_value
    from corporate_actions
    where
        action = 'split'
        and available_at >= {{ decision_at('ex_date') }}

)

select
    dataset,
    symbol,
    dated_on,
    period_type,
    column_name,
    available_at,
    previous_available_at,
    previous_value,
    new_value,
    {{ safe_divide('new_value', 'previous_value') }} - 1 as relative_change
from changes
where new_value is distinct from previous_value
