{#
  Sum and mean of a column over the latest n sessions of a spell, the same bits whatever other rows
  there are (with_rolling.sql says how each engine does it).
    sums       the `sums` of with_rolling(), the column among them; a NULL counts as 0
    sessions   n
  Before a spell has n sessions the sum is one of fewer values: the caller asks for n.
#}
{% macro rolling_sum(sums, column, sessions) -%}
    {{ return(adapter.dispatch('rolling_sum', 'asx_warehouse')(sums, column, sessions)) }}
{%- endmacro %}

{% macro default__rolling_sum(sums, column, sessions) -%}
    {%- set rest = sessions % 20 if sessions >= 20 else sessions -%}
    {%- set terms = [] -%}
    {%- for k in range(0, sessions - rest, 20) -%}
        {%- do terms.append(earlier('of_20_' ~ column, k)) -%}
    {%- endfor -%}
    {%- for k in range(sessions - rest, sessions - rest % 5, 5) -%}
        {%- do terms.append(earlier('of_5_' ~ column, k)) -%}
    {%- endfor -%}
    {%- for k in range(sessions - rest % 5, sessions) -%}
        {%- do terms.append('coalesce(' ~ earlier(column, k) ~ ', 0)') -%}
    {%- endfor -%}
    ({{ terms | join(' + ') }})
{%- endmacro %}

{# The value k sessions ago, 0 before the spell began. #}
{% macro earlier(column, k) -%}
    {{ 'lag(' ~ column ~ ', ' ~ k ~ ', 0) over in_spell' if k else column }}
{%- endmacro %}

{% macro postgres__rolling_sum(sums, column, sessions) -%}
    (
        {%- for _ in sum_parts(sums[column], column) -%}
            {%- set total = 'total_' ~ loop.index ~ '_' ~ column -%}
            ({{ total }}[row_at] - coalesce({{ total }}[row_at - {{ sessions }}], 0))
            {{- ' + ' if not loop.last }}
        {%- endfor -%}
    )
{%- endmacro %}

{# Mean of a full frame without a missing value. #}
{% macro rolling_mean(sums, column, sessions) -%}
    ({{ rolling_sum(sums, column, sessions) }} / {{ sessions }})
{%- endmacro %}
