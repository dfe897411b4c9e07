{#
  Sum and mean of a column over the latest n sessions of a spell, the same bits whatever other rows
  there are (with_rolling.sql says how each engine does it).
    sums       the `sums` of with_rolling(), the column among them; a NULL counts as 0
    sessions   n; the stage names the windows in_spell and last_<n>
  Before a spell has n sessions the sum is one of fewer values: the caller asks for n.

  Postgres: a moving sum adds the row that enters and subtracts the one that leaves, in the same time
  whatever the length. Plain doubles would keep the rounding errors of every large value that passed
  by, and a sum of zeros would not come back to zero; so the values are cut into exact parts.
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
            {{ window_function_schema() }}.moving_sum(part_{{ loop.index }}_{{ column }}) over last_{{ sessions }}
            {{- ' + ' if not loop.last }}
        {%- endfor -%}
    )
{%- endmacro %}

{# Mean of a full frame without a missing value. #}
{% macro rolling_mean(sums, column, sessions) -%}
    ({{ rolling_sum(sums, column, sessions) }} / {{ sessions }})
{%- endmacro %}
