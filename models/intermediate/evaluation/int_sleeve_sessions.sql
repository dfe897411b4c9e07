{#
  Staggered sleeves: at every session's close a sleeve buys the highest tenth (top), another the
  lowest (bottom), a third everything (universe), equal weights, and holds for 21 sessions; 21 sleeves
  are open at any time. Nothing is rebalanced in between.

  A sleeve that bought the weight w of a share at the index I(t) is worth w * I(d) / I(t) in it at d.
  Summed over the open sleeves that is I(d) times a moving sum of w / I(t), so one window over the grid
  replaces a join of every position with its 21 days.
#}
{% set horizon = 21 %}
{% set segments = ['all'] + var('liquidity_tiers').keys() | list %}
{% set legs = ['top', 'bottom', 'universe'] %}
{% set sleeves = [] %}
{% for segment in segments %}
    {% for leg in legs %}
        {% do sleeves.append({'segment': segment, 'leg': leg, 'name': segment ~ '_' ~ leg}) %}
    {% endfor %}
{% endfor %}
{% set price = 'close * capital_factor' if var('label_price') == 'close' else 'adj_close' %}

with predictions as (

    select * from {{ ref('int_evaluated_predictions') }}

),

daily_grid as (

    select * from {{ ref('int_daily_grid') }}

),

segmented as (

    select
        'all' as segment,
        predictions.*
    from predictions
    {% for tier, least in var('liquidity_tiers').items() %}
        union all
        select
            '{{ tier }}' as segment,
            predictions.*
        from predictions
        where adv_20_median >= {{ least }}
    {% endfor %}

),

ranked as (

    select
        run_id,
        segment,
        symbol,
        session_idx,
        side_cost,
        cast(count(*) over the_session as double precision) as rows_of_session,
        rank() over by_expectation
        + (count(*) over same_expectation - 1) / cast(2 as double precision) as expectation_rank
    from segmented
    window
        the_session as (partition by run_id, segment, session_idx),
        by_expectation as (partition by run_id, segment, session_idx order by expected_return),
        same_expectation as (partition by run_id, segment, session_idx, expected_return)

),

placed as (

    select
        run_id,
        segment,
        symbol,
        session_idx,
        side_cost,
        rows_of_session,
        case when (expectation_rank - 0.5) / rows_of_session >= 0.9 then 1 else 0 end as is_top,
        case when (expectation_rank - 0.5) / rows_of_session <= 0.1 then 1 else 0 end as is_bottom
    from ranked
    where rows_of_session >= {{ var('session_minimum_rows') }}

),

weighted as (

    select
        run_id,
        segment,
        symbol,
        session_idx,
        side_cost,
        is_top / nullif(cast(sum(is_top) over the_session as double precision), 0) as top_weight,
        is_bottom / nullif(cast(sum(is_bottom) over the_session as double precision), 0)
            as bottom_weight,
        1 / rows_of_session as universe_weight
    from placed
    window the_session as (partition by run_id, segment, session_idx)

),

bought as (

    select
        run_id,
        symbol,
        session_idx,
        {% for sleeve in sleeves -%}
            max(case when segment = '{{ sleeve.segment }}' then {{ sleeve.leg }}_weight end)
                as bought_{{ sleeve.name }},
        {% endfor -%}
        max(side_cost) as side_cost
    from weighted
    group by run_id, symbol, session_idx

),

spans as (

    select
        run_id,
        min(session_idx) as first_session_idx,
        max(session_idx) as last_session_idx
    from bought
    group by run_id

),

grid_of_run as (

    select
        spans.run_id,
        daily_grid.symbol,
        daily_grid.spell_key,
        daily_grid.session_idx,
        daily_grid.trade_date,
        {{ price }} as value_index
    from daily_grid
    inner join spans
        on daily_grid.session_idx between spans.first_session_idx and spans.last_session_idx

),

positions as (

    select
        grid_of_run.run_id,
        grid_of_run.spell_key,
        grid_of_run.session_idx,
        grid_of_run.trade_date,
        grid_of_run.value_index,
        {% for sleeve in sleeves -%}
            coalesce(bought.bought_{{ sleeve.name }}, 0) as bought_{{ sleeve.name }},
        {% endfor -%}
        -- a share that has left the universe is sold at the cost of the least liquid ones
        coalesce(
            bought.side_cost, {{ var('side_costs_bp')[0] }} / cast(10000 as double precision)
        ) as side_cost
    from grid_of_run
    left join bought
        on
            grid_of_run.run_id = bought.run_id
            and grid_of_run.symbol = bought.symbol
            and grid_of_run.session_idx = bought.session_idx

),

held as (

    select
        run_id,
        session_idx,
        trade_date,
        value_index,
        {% for sleeve in sleeves -%}
            bought_{{ sleeve.name }},
            sum(bought_{{ sleeve.name }} / value_index) over open_sleeves as units_{{ sleeve.name }},
            coalesce(lag(bought_{{ sleeve.name }} / value_index, {{ horizon }}) over in_spell, 0)
                as closing_{{ sleeve.name }},
        {% endfor -%}
        side_cost,
        lag(value_index) over in_spell as previous_index
    from positions
    window
        in_spell as (partition by run_id, spell_key order by session_idx),
        open_sleeves as (
            partition by run_id, spell_key
            order by session_idx
            rows between {{ horizon }} preceding and 1 preceding
        )

),

summed as (

    select
        {% for sleeve in sleeves -%}
            sum(bought_{{ sleeve.name }}) as capital_{{ sleeve.name }},
            sum(units_{{ sleeve.name }} * value_index) as value_{{ sleeve.name }},
            sum(units_{{ sleeve.name }} * previous_index) as before_{{ sleeve.name }},
            sum(abs(bought_{{ sleeve.name }} - closing_{{ sleeve.name }} * value_index))
                as traded_{{ sleeve.name }},
            sum(abs(bought_{{ sleeve.name }} - closing_{{ sleeve.name }} * value_index) * side_cost)
                as paid_{{ sleeve.name }},
        {% endfor -%}
        run_id,
        session_idx,
        trade_date
    from held
    group by run_id, session_idx, trade_date

),

-- until 21 sleeves are open, the portfolio is being built
opened as (

    select
        {% for sleeve in sleeves -%}
            summed.value_{{ sleeve.name }},
            summed.before_{{ sleeve.name }},
            summed.traded_{{ sleeve.name }},
            summed.paid_{{ sleeve.name }},
            sum(case when summed.capital_{{ sleeve.name }} > 0 then 1 else 0 end) over open_sleeves
                as sleeves_{{ sleeve.name }},
        {% endfor -%}
        summed.run_id,
        summed.session_idx,
        summed.trade_date
    from summed
    window
        open_sleeves as (
            partition by summed.run_id
            order by summed.session_idx
            rows between {{ horizon }} preceding and 1 preceding
        )

)

{% for sleeve in sleeves %}
    select
        run_id,
        '{{ sleeve.segment }}' as segment,
        '{{ sleeve.leg }}' as leg,
        session_idx,
        trade_date,
        value_{{ sleeve.name }} / before_{{ sleeve.name }} - 1 as gross_return,
        traded_{{ sleeve.name }} / value_{{ sleeve.name }} as turnover,
        paid_{{ sleeve.name }} / value_{{ sleeve.name }} as cost
    from opened
    where sleeves_{{ sleeve.name }} = {{ horizon }}
    {{ 'union all' if not loop.last }}
{% endfor %}
