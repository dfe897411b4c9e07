{#
  Largest or smallest value over the latest n sessions of a spell.

  Postgres has no inverse for max() and min() and looks at the whole frame for every row. There the
  extreme of a long frame is put together from those of shorter ones: of 5 rows, then of 20, then of
  252 (twelve times 20, and the twenty rows at the far end). So the work is done in two places:

    with_extremes(relation, extremes)   what the stage before selects from: the relation, on Postgres
                                        with one more column for each extreme. Each extreme is a
                                        dictionary of function (max, min), values (a column) and
                                        sessions (20, or 20 * k + r for k >= 1)
    rolling_extreme(extreme, window)    the value: the column, or DuckDB's own window aggregate

  Rows are those of spell_key in order of session_idx.
#}
{% macro with_extremes(relation, extremes) -%}
    {{ return(adapter.dispatch('with_extremes', 'asx_warehouse')(relation, extremes)) }}
{%- endmacro %}

{% macro default__with_extremes(relation, extremes) -%}
    {{ relation }}
{%- endmacro %}

{% macro postgres__with_extremes(relation, extremes) -%}
    {%- set over = '(partition by spell_key order by session_idx)' -%}
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
                    rows_in.*
                    {%- for e in extremes %},
                    {{ e['function'] }}({{ e['values'] }}) over last_5 as of_5_{{ extreme_name(e) }}
                    {%- endfor %}
                from {{ relation }} as rows_in
                window last_5 as (
                    partition by spell_key order by session_idx rows between 4 preceding and current row
                )
            ) as of_5
            window in_spell as {{ over }}
        ) as of_20
        window in_spell as {{ over }}
    ) as {{ relation }}
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
