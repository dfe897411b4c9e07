{#
  Statistics of the latest n sessions of a spell: what a stage that has any selects from, and what it
  says in place of its windows.

    with_rolling(relation, columns, nullable, sums, order_statistics)
      columns    what the stage reads, now or sessions ago (lagged), and is never NULL
      nullable   further columns of doubles it reads, which may be NULL (never NaN)
      sums       columns of doubles, each with
                   frames       lengths of the frames it is summed over
                   complete     true: NULL unless every session of the frame has a value (else a NULL
                                counts as 0)
                 and, where a frame has 20 sessions or more,
                   magnitude    power of two that the absolute values of no spell add up to
                   resolution   power of two so small that a value may be rounded to it (default -64)
      order_statistics   dictionaries of function (max, min, median), values (a column of doubles that
                         is not infinite on the side it is not the extreme of), sessions
    rolling_windows(lengths)              the windows; lengths of the frames of `order_statistics`
    lagged(column, k, nullable)           the value k sessions ago, NULL before the spell began
    rolling_sum(sums, column, sessions)   rolling_sum.sql
    rolling_order_statistic(statistic)    the largest, smallest or middle value of a frame, that
                                          interpolated as percentile_cont does

  Rows are those of spell_key in order of session_idx.

  A column that is summed over fewer than 20 sessions is added up row by row where it is asked for.

  DuckDB puts longer sums together from shorter ones, of 5 rows, of 20, of what is asked for: its window
  aggregates add in an order that depends on where the row stands in memory, so the last bit would
  change with the rows around it; this order is fixed, and reading an earlier row costs a tenth of an
  aggregate.

  Postgres makes one row of each spell, with an array of each column, and reads from it: an element
  of an array costs a sixth of lag(). A longer sum is the difference of two totals since the spell began,
  which is exact because its summands are cut into exact parts (exact_sum.sql). Arrays hold NaN for
  NULL, because elements of an array with NULLs are found by counting.
#}
{% macro with_rolling(relation, columns, nullable=[], sums={}, order_statistics=[]) -%}
    {{ return(adapter.dispatch('with_rolling', 'asx_warehouse')(relation, columns, nullable, sums, order_statistics)) }}
{%- endmacro %}

{% macro default__with_rolling(relation, columns, nullable, sums, order_statistics) -%}
    {%- set long = long_sums(sums) -%}
    {%- if not long -%}
        {{ relation }}
    {%- else -%}
    (
        select
            of_5.*
            {%- for column, sum in long.items() -%},
            of_5_{{ column }}
            {%- for k in [5, 10, 15] %} + {{ earlier('of_5_' ~ column, k, sum) }}{% endfor %}
                as of_20_{{ column }}
            {%- endfor %}
        from (
            select
                rows_in.*
                {%- for column, sum in long.items() -%},
                {{ sum_of_rows(column, 0, 5, sum) }} as of_5_{{ column }}
                {%- endfor %}
            from {{ relation }} as rows_in
            window in_spell as (partition by spell_key order by session_idx)
        ) as of_5
        window in_spell as (partition by spell_key order by session_idx)
    ) as {{ relation }}
    {%- endif -%}
{%- endmacro %}

{# "offset 0" keeps a value from being computed again wherever it is read. #}
{% macro postgres__with_rolling(relation, columns, nullable, sums, order_statistics) -%}
    (
        select
            spell_key,
            all_session_idx[row_at] as session_idx,
            {% for column in columns -%}
            all_{{ column }}[row_at] as {{ column }},
            {% endfor -%}
            {% for column in nullable -%}
            {{ or_null('all_' ~ column ~ '[row_at]') }} as {{ column }},
            all_{{ column }},
            {% endfor -%}
            {% for column in columns -%}
            all_{{ column }},
            {% endfor -%}
            {% for column, sum in sums.items() -%}
                {%- for array in arrays_of_sum(column, sum) -%}
            {{ array }},
                {% endfor -%}
            {%- endfor -%}
            {% for statistic in order_statistics -%}
            all_{{ order_statistic_name(statistic) }},
            {% endfor -%}
            row_at
        from (
            select
                spells.*,
                generate_series(1, cardinality(all_session_idx)) as row_at
            from (
                select
                    spell_key,
                    {% for column in columns -%}
                    array_agg({{ column }} order by session_idx) as all_{{ column }},
                    {% endfor -%}
                    {% for column in nullable -%}
                    array_agg(coalesce({{ column }}, cast('nan' as double precision)) order by session_idx)
                        as all_{{ column }},
                    {% endfor -%}
                    {% for column, sum in sums.items() -%}
                        {%- for array, elements in arrays_of_sum(column, sum).items() -%}
                    array_agg({{ elements }} order by session_idx) as {{ array }},
                        {% endfor -%}
                    {%- endfor -%}
                    {% for statistic in order_statistics -%}
                    {% if is_compared(statistic) -%}
                    array_agg(coalesce({{ statistic['values'] }}, {{ least_extreme(statistic) }}) order by session_idx)
                    {%- else -%}
                    {{ array_function_schema() }}.moving_{{ statistic['function'] }}(
                        array_agg({{ statistic['values'] }} order by session_idx), {{ statistic.sessions }}
                    )
                    {%- endif %} as all_{{ order_statistic_name(statistic) }},
                    {% endfor -%}
                    array_agg(session_idx order by session_idx) as all_session_idx
                from {{ postgres_with_totals(relation, sums) }}
                group by spell_key
                offset 0
            ) as spells
        ) as spell_rows
    ) as {{ relation }}
{%- endmacro %}

{# What the arrays that a sum reads hold, by their names. #}
{% macro arrays_of_sum(column, sum) -%}
    {%- set arrays = {} -%}
    {%- if is_long(sum) -%}
        {%- for _ in sum_parts(sum, column) -%}
            {%- set total = 'total_' ~ loop.index ~ '_' ~ column -%}
            {%- do arrays.update({total: 'coalesce(' ~ total ~ ', 0)'}) -%}
        {%- endfor -%}
        {%- if sum.complete -%}
            {%- do arrays.update({'missing_' ~ column: 'missing_' ~ column}) -%}
        {%- endif -%}
    {%- else -%}
        {%- set absent = "cast('nan' as double precision)" if sum.complete else 0 -%}
        {%- do arrays.update({'summands_' ~ column: 'coalesce(' ~ column ~ ', ' ~ absent ~ ')'}) -%}
    {%- endif -%}
    {{ return(arrays) }}
{%- endmacro %}

{#
  The relation with total_<i>_<column> added, the sum of part i of a column since its spell began, and
  missing_<column>, the number of its NULLs.
#}
{% macro postgres_with_totals(relation, sums) -%}
    {%- set long = long_sums(sums) -%}
    {%- if not long -%}
        {{ relation }}
    {%- else -%}
    (
        select
            parted.*
            {%- for column, sum in long.items() -%}
                {%- for part in sum_parts(sum, column) -%},
            sum({{ part }}) over so_far as total_{{ loop.index }}_{{ column }}
                {%- endfor -%}
                {%- if sum.complete -%},
            count(*) filter (where {{ column }} is null) over so_far as missing_{{ column }}
                {%- endif -%}
            {%- endfor %}
        from (select * from {{ relation }} offset 0) as parted
        window so_far as (
            partition by spell_key order by session_idx rows between unbounded preceding and current row
        )
    ) as {{ relation }}
    {%- endif -%}
{%- endmacro %}

{# The exact parts of a column of `sums`, as a list of expressions; a spell has up to 2^14 sessions. #}
{% macro sum_parts(sum, column) -%}
    {{ return(exact_parts(column, sum.magnitude, sum.resolution | default(-64), 14)) }}
{%- endmacro %}

{% macro or_null(element) -%}
    nullif({{ element }}, cast('nan' as double precision))
{%- endmacro %}

{% macro rolling_windows(lengths=[]) -%}
    {{ return(adapter.dispatch('rolling_windows', 'asx_warehouse')(lengths)) }}
{%- endmacro %}

{% macro default__rolling_windows(lengths) -%}
    window
        in_spell as (partition by spell_key order by session_idx)
        {%- for n in lengths -%},
        last_{{ n }} as (
            partition by spell_key
            order by session_idx
            rows between {{ n - 1 }} preceding and current row
        )
        {%- endfor -%}
{%- endmacro %}

{% macro postgres__rolling_windows(lengths) -%}
    offset 0
{%- endmacro %}

{% macro lagged(column, k, nullable=false) -%}
    {{ return(adapter.dispatch('lagged', 'asx_warehouse')(column, k, nullable)) }}
{%- endmacro %}

{% macro default__lagged(column, k, nullable) -%}
    {{ 'lag(' ~ column ~ ', ' ~ k ~ ') over in_spell' if k else column }}
{%- endmacro %}

{% macro postgres__lagged(column, k, nullable) -%}
    {%- set element = 'all_' ~ column ~ '[row_at' ~ (' - ' ~ k if k) ~ ']' -%}
    {{ or_null(element) if nullable else element }}
{%- endmacro %}

{% macro rolling_order_statistic(statistic) -%}
    {{ return(adapter.dispatch('rolling_order_statistic', 'asx_warehouse')(statistic)) }}
{%- endmacro %}

{% macro default__rolling_order_statistic(statistic) -%}
    {{ statistic['function'] }}({{ statistic['values'] }}) over last_{{ statistic.sessions }}
{%- endmacro %}

{% macro postgres__rolling_order_statistic(statistic) -%}
    {%- set array = 'all_' ~ order_statistic_name(statistic) -%}
    {%- if is_compared(statistic) -%}
    nullif(
        {{ 'greatest' if statistic['function'] == 'max' else 'least' }}(
            {%- for k in range(statistic.sessions) -%}
            {{ array }}[row_at - {{ k }}]{{ ', ' if not loop.last }}
            {%- endfor -%}
        ),
        {{ least_extreme(statistic) }}
    )
    {%- else -%}
    {{ array }}[row_at]
    {%- endif -%}
{%- endmacro %}

{# Extremes of so few elements are found sooner by looking at each of them. #}
{% macro is_compared(statistic) -%}
    {{ return(statistic['function'] in ['max', 'min'] and statistic.sessions <= 32) }}
{%- endmacro %}

{# What stands for NULL in the array of such an extreme. #}
{% macro least_extreme(statistic) -%}
    cast('{{ '-' if statistic['function'] == 'max' }}infinity' as double precision)
{%- endmacro %}

{% macro order_statistic_name(statistic) -%}
    {{ statistic['function'] }}_{{ statistic['values'] }}_{{ statistic.sessions }}
{%- endmacro %}
