{#
  Sum and mean of a column over the latest n sessions of a spell, the same bits whatever other rows
  there are (with_rolling.sql says how each engine does it).
    sums       the `sums` of with_rolling(), the column among them
    sessions   n
  Before a spell has n sessions the sum is one of fewer values, unless it is `complete`: the caller asks
  for n.
#}
{% macro rolling_sum(sums, column, sessions) -%}
    {{ return(adapter.dispatch('rolling_sum', 'asx_warehouse')(sums, column, sessions)) }}
{%- endmacro %}

{% macro default__rolling_sum(sums, column, sessions) -%}
    {%- set sum = sums[column] -%}
    {%- set of_20 = sessions - sessions % 20 if is_long(sum) else 0 -%}
    {%- set of_5 = sessions - sessions % 5 if is_long(sum) else 0 -%}
    {%- set terms = [] -%}
    {%- for k in range(0, of_20, 20) -%}
        {%- do terms.append(earlier('of_20_' ~ column, k, sum)) -%}
    {%- endfor -%}
    {%- for k in range(of_20, of_5, 5) -%}
        {%- do terms.append(earlier('of_5_' ~ column, k, sum)) -%}
    {%- endfor -%}
    {%- if of_5 < sessions -%}
        {%- do terms.append(sum_of_rows(column, of_5, sessions - of_5, sum)) -%}
    {%- endif -%}
    ({{ terms | join(' + ') }})
{%- endmacro %}

{# Whether sums need more than the rows themselves: sums of 5 and 20 rows, or totals. #}
{% macro is_long(sum) -%}
    {{ return(sum.frames | max >= 20) }}
{%- endmacro %}

{# Those of `sums` that do, by their columns. #}
{% macro long_sums(sums) -%}
    {%- set long = {} -%}
    {%- for column, sum in sums.items() if is_long(sum) -%}
        {%- do long.update({column: sum}) -%}
    {%- endfor -%}
    {{ return(long) }}
{%- endmacro %}

{# Sum of as many values as `rows`, the latest of them k sessions ago. #}
{% macro sum_of_rows(column, k, rows, sum) -%}
    {%- for i in range(k, k + rows) -%}
        {{ earlier(column if sum.complete else 'coalesce(' ~ column ~ ', 0)', i, sum) }}
        {{- ' + ' if not loop.last }}
    {%- endfor -%}
{%- endmacro %}

{# The value k sessions ago; before the spell began 0, or NULL if every session must have a value. #}
{% macro earlier(column, k, sum) -%}
    {%- if k -%}
        lag({{ column }}, {{ k }}{{ ', 0' if not sum.complete }}) over in_spell
    {%- else -%}
        {{ column }}
    {%- endif -%}
{%- endmacro %}

{% macro postgres__rolling_sum(sums, column, sessions) -%}
    {%- set is_complete = sums[column].complete -%}
    {%- if not is_long(sums[column]) -%}
    {{ 'nullif' if is_complete }}(
        {%- for k in range(sessions) -%}
            {%- set element = 'summands_' ~ column ~ '[row_at' ~ (' - ' ~ k if k) ~ ']' -%}
            {{ element if is_complete or not k else 'coalesce(' ~ element ~ ', 0)' }}
            {{- ' + ' if not loop.last }}
        {%- endfor -%}
        {{ ", cast('nan' as double precision)" if is_complete }}
    )
    {%- else -%}
    {%- if is_complete -%}
    case
        when row_at >= {{ sessions }}
            and missing_{{ column }}[row_at] = coalesce(missing_{{ column }}[row_at - {{ sessions }}], 0)
            then
    {% endif -%}
    (
        {%- for _ in sum_parts(sums[column], column) -%}
            {%- set total = 'total_' ~ loop.index ~ '_' ~ column -%}
            ({{ total }}[row_at] - coalesce({{ total }}[row_at - {{ sessions }}], 0))
            {{- ' + ' if not loop.last }}
        {%- endfor -%}
    )
    {%- if is_complete %}
    end
    {%- endif -%}
    {%- endif -%}
{%- endmacro %}

{# Mean of a full frame without a missing value. #}
{% macro rolling_mean(sums, column, sessions) -%}
    ({{ rolling_sum(sums, column, sessions) }} / {{ sessions }})
{%- endmacro %}
