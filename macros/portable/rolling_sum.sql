{#
  Sum over a window frame; NULL where the frame holds no value.
    values      expression of doubles, finite or NULL; short, because it is repeated
    window      name of a window with its frame
    magnitude   power of two that the absolute values of no frame add up to

  Postgres: a moving sum adds the row that enters and subtracts the one that leaves, in the same time
  whatever the length. Plain doubles would keep the rounding errors of every large value that passed
  by, so a value is split at a grid, 53 bits below the magnitude: sums of multiples of the grid are
  exact, and what is left below it is too small for its rounding to matter: 2^-107 of the magnitude
  for each row. A large magnitude is split once more, to 2^-151. Adding and subtracting 1.5 * 2^52
  grid steps rounds to the grid.
#}
{% macro rolling_sum(values, window, magnitude=40) -%}
    {{ return(adapter.dispatch('rolling_sum', 'asx_warehouse')(values, window, magnitude)) }}
{%- endmacro %}

{% macro default__rolling_sum(values, window, magnitude) -%}
    sum({{ values }}) over {{ window }}
{%- endmacro %}

{% macro postgres__rolling_sum(values, window, magnitude) -%}
    case
        when count({{ values }}) over {{ window }} > 0
            then {{ postgres_moving_sum(values, window, magnitude) }}
    end
{%- endmacro %}

{# The moving sum itself, 0 for a frame without a value. #}
{% macro postgres_moving_sum(values, window, magnitude) -%}
    {%- set moving_sum = window_function_schema() ~ '.moving_sum' -%}
    {%- set coarse = '(((' ~ values ~ ') + ' ~ rounding_shift(magnitude) ~ ') - ' ~ rounding_shift(magnitude) ~ ')' -%}
    {%- set rest = '((' ~ values ~ ') - ' ~ coarse ~ ')' -%}
    {%- if magnitude <= 45 -%}
        ({{ moving_sum }}({{ coarse }}) over {{ window }} + {{ moving_sum }}({{ rest }}) over {{ window }})
    {%- else -%}
        {#- 2^9 rests of half a grid step each add up to less than 2^9 steps -#}
        {%- set shift = rounding_shift(magnitude - 44) -%}
        {%- set fine = '((' ~ rest ~ ' + ' ~ shift ~ ') - ' ~ shift ~ ')' -%}
        ({{ moving_sum }}({{ coarse }}) over {{ window }} + (
            {{ moving_sum }}({{ fine }}) over {{ window }}
            + {{ moving_sum }}({{ rest }} - {{ fine }}) over {{ window }}
        ))
    {%- endif -%}
{%- endmacro %}

{# 1.5 * 2^52 steps of a grid 53 bits below the magnitude, in full precision. #}
{% macro rounding_shift(magnitude) -%}
    cast('{{ 1.5 * 2.0 ** (magnitude - 1) }}' as double precision)
{%- endmacro %}
