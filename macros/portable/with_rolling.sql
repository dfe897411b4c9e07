{#
  What a stage with rolling sums and extremes selects from: the relation, with the columns an engine
  needs to be fast added to it.

    with_rolling(relation, sums, extremes)
      sums       columns of doubles, each with
                   frames       lengths of the frames it is summed over
                   magnitude    power of two that the absolute values of no frame add up to
                   resolution   power of two so small that a value may be rounded to it (default -66)
      extremes   dictionaries of function (max, min), values (a column) and sessions (20, or
                 20 * k + r for k >= 1)
    rolling_sum(sums, column, sessions)     rolling_sum.sql
    rolling_extreme(extreme, window)        the largest or smallest value of the frame

  Rows are those of spell_key in order of session_idx; the stage names the windows in_spell (that
  partition and order) and last_<n> (its latest n rows).

  Frames are put together from shorter ones: of 5 rows, then of 20, then of what is asked for.
    DuckDB sums this way. Its own window aggregates add in an order that depends on where the row
    stands in memory, so the last bit would change with the rows around it; this order is fixed, and
    reading an earlier row costs a tenth of an aggregate.
    Postgres takes extremes this way: it has no inverse for max() and min() and would look at the
    whole frame for every row. Its sums are moving_sum (window_functions.sql) of exact parts
    (exact_sum.sql), which stand in columns because a moving sum reads each value twice.
#}
{% macro with_rolling(relation, sums={}, extremes=[]) -%}
    {{ return(adapter.dispatch('with_rolling', 'asx_warehouse')(relation, sums, extremes)) }}
{%- endmacro %}

{% macro default__with_rolling(relation, sums, extremes) -%}
    {%- set of_20 = [] -%}
    {%- for column, sum in sums.items() if sum.frames | max >= 20 -%}
        {%- do of_20.append(column) -%}
    {%- endfor -%}
    {%- if not sums -%}
        {{ relation }}
    {%- else -%}
    (
        select
            of_5.*
            {%- for column in of_20 -%},
            of_5_{{ column }}
            {%- for k in [5, 10, 15] %} + lag(of_5_{{ column }}, {{ k }}, 0) over in_spell{% endfor %}
                as of_20_{{ column }}
            {%- endfor %}
        from (
            select
                rows_in.*
                {%- for column in sums -%},
                coalesce({{ column }}, 0)
                {%- for k in [1, 2, 3, 4] %} + lag(coalesce({{ column }}, 0), {{ k }}, 0) over in_spell{% endfor %}
                    as of_5_{{ column }}
                {%- endfor %}
            from {{ relation }} as rows_in
            window in_spell as (partition by spell_key order by session_idx)
        ) as of_5
        window in_spell as (partition by spell_key order by session_idx)
    ) as {{ relation }}
    {%- endif -%}
{%- endmacro %}

{% macro postgres__with_rolling(relation, sums, extremes) -%}
    {%- set source = postgres_with_parts(relation, sums) -%}
    {%- if not extremes -%}
        {{ source }}
    {%- else -%}
    (
        select
            of_20.*
            {%- for e in extremes %}
                {%- set column = 'of_20_' ~ extreme_name(e) -%}
                {%- set frames = (e.sessions - 1) // 20 -%},
            {{ 'greatest' if e['function'] == 'max' else 'least' }}(
                {{ column }}
                {%- for k in range(1, frames) %}, lag({{ column }}, {{ 20 * k }}) over in_spell{% endfor -%}
                {%- if e.sessions > 20 %}, lag({{ column }}, {{ e.sessions - 20 }}) over in_spell{% endif %}
            ) as {{ extreme_name(e) }}
            {%- endfor %}
        from (
            select
                of_5.*
                {%- for e in extremes %}
                    {%- set column = 'of_5_' ~ extreme_name(e) %},
                {{ 'greatest' if e['function'] == 'max' else 'least' }}(
                    {{ column }},
                    lag({{ column }}, 5) over in_spell,
                    lag({{ column }}, 10) over in_spell,
                    lag({{ column }}, 15) over in_spell
                ) as of_20_{{ extreme_name(e) }}
                {%- endfor %}
            from (
                select
                    {{ relation }}.*
                    {%- for e in extremes %},
                    {{ e['function'] }}({{ e['values'] }}) over last_5 as of_5_{{ extreme_name(e) }}
                    {%- endfor %}
                from {{ source }}
                window last_5 as (
                    partition by spell_key order by session_idx rows between 4 preceding and current row
                )
            ) as of_5
            window in_spell as (partition by spell_key order by session_idx)
        ) as of_20
        window in_spell as (partition by spell_key order by session_idx)
    ) as {{ relation }}
    {%- endif -%}
{%- endmacro %}

{# The relation with part_<i>_<column> added; "offset 0" keeps the values from being computed again
   wherever they are read. #}
{% macro postgres_with_parts(relation, sums) -%}
    {%- if not sums -%}
        {{ relation }}
    {%- else -%}
    (
        select
            rows_in.*
            {%- for column, sum in sums.items() -%}
                {%- for part in sum_parts(sum, column) -%},
            {{ part }} as part_{{ loop.index }}_{{ column }}
                {%- endfor -%}
            {%- endfor %}
        from (select * from {{ relation }} offset 0) as rows_in
        offset 0
    ) as {{ relation }}
    {%- endif -%}
{%- endmacro %}

{# The exact parts of a column of `sums`, as a list of expressions. #}
{% macro sum_parts(sum, column) -%}
    {{ return(exact_parts(column, sum.magnitude, sum.resolution | default(-66), 9)) }}
{%- endmacro %}

{% macro rolling_extreme(extreme, window) -%}
    {{ return(adapter.dispatch('rolling_extreme', 'asx_warehouse')(extreme, window)) }}
{%- endmacro %}

{% macro default__rolling_extreme(extreme, window) -%}
    {{ extreme['function'] }}({{ extreme['values'] }}) over {{ window }}
{%- endmacro %}

{% macro postgres__rolling_extreme(extreme, window) -%}
    {{ extreme_name(extreme) }}
{%- endmacro %}

{% macro extreme_name(extreme) -%}
    {{ extreme['function'] }}_{{ extreme['values'] }}_{{ extreme.sessions }}
{%- endmacro %}
