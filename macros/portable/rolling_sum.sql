{#
  Sum over a window frame; NULL where the frame holds no value.
    values       expression of doubles, finite or NULL; short, because it is repeated
    window       name of a window with its frame
    magnitude    power of two that the absolute values of no frame add up to
    resolution   power of two so small that a value may be rounded to it

  Postgres: a moving sum adds the row that enters and subtracts the one that leaves, in the same time
  whatever the length. Plain doubles would keep the rounding errors of every large value that passed
  by, and a sum of zeros would not come back to zero. So a value is cut into parts, each a multiple
  of a grid of which the sum of no frame has more than 53 bits: every addition and subtraction is
  exact. Adding and subtracting 1.5 * 2^52 grid steps rounds to a grid.
#}
{% macro rolling_sum(values, window, magnitude=30, resolution=-66) -%}
    {{ return(adapter.dispatch('rolling_sum', 'asx_warehouse')(values, window, magnitude, resolution)) }}
{%- endmacro %}

{% macro default__rolling_sum(values, window, magnitude, resolution) -%}
    sum({{ values }}) over {{ window }}
{%- endmacro %}

{% macro postgres__rolling_sum(values, window, magnitude, resolution) -%}
    case
        when count({{ values }}) over {{ window }} > 0
            then {{ postgres_moving_sum(values, window, magnitude, resolution) }}
    end
{%- endmacro %}

{# The moving sum itself, 0 for a frame without a value. #}
{% macro postgres_moving_sum(values, window, magnitude, resolution=-66) -%}
    {%- set sums = [] -%}
    {%- set cut = namespace(rest='(' ~ values ~ ')', grid=magnitude - 53) -%}
    {%- for _ in range(8) -%}
        {%- if not sums or cut.grid + 44 > resolution -%}
            {%- set shift = postgres_rounding_shift(cut.grid) -%}
            {%- set part = '((' ~ cut.rest ~ ' + ' ~ shift ~ ') - ' ~ shift ~ ')' -%}
            {%- do sums.append(window_function_schema() ~ '.moving_sum(' ~ part ~ ') over ' ~ window) -%}
            {%- set cut.rest = '(' ~ cut.rest ~ ' - ' ~ part ~ ')' -%}
            {#- up to 2^9 rests of half a step each need 9 of the next grid's 53 bits -#}
            {%- set cut.grid = cut.grid - 44 -%}
        {%- endif -%}
    {%- endfor -%}
    ({{ sums | join(' + ') }})
{%- endmacro %}

{# 1.5 * 2^52 steps of the grid 2^exponent, in full precision. #}
{% macro postgres_rounding_shift(exponent) -%}
    cast('{{ 1.5 * 2.0 ** (exponent + 52) }}' as double precision)
{%- endmacro %}
