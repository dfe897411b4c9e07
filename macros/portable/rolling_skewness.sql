{#
  Bias-corrected sample skewness (G1, the adjusted Fisher-Pearson coefficient) over a window frame.
    values      expression of doubles whose mean is not large against their deviation
    window      name of a window with its frame
    magnitude, resolution   as for rolling_sum
  NULL for fewer than three values. A frame without variation gives NULL or NaN: finite() around the
  column makes it NULL everywhere (asking for the deviation here would cost DuckDB a second window).
  Postgres has no skewness: the first three moments about zero come from moving sums that are exact
  to far below the last bit (rolling_sum.sql), and are then centred.
#}
{% macro rolling_skewness(values, window, magnitude=14, resolution=-66) -%}
    {{ return(adapter.dispatch('rolling_skewness', 'asx_warehouse')(values, window, magnitude, resolution)) }}
{%- endmacro %}

{% macro default__rolling_skewness(values, window, magnitude, resolution) -%}
    skewness({{ values }}) over {{ window }}
{%- endmacro %}

{% macro postgres__rolling_skewness(values, window, magnitude, resolution) -%}
    {%- set value = '(' ~ values ~ ')' -%}
    {%- set square = value ~ ' * ' ~ value -%}
    {%- set cube = square ~ ' * ' ~ value -%}
    {%- set n = 'cast(count(' ~ values ~ ') over ' ~ window ~ ' as double precision)' -%}
    {%- set mean = '(' ~ postgres_moving_sum(values, window, magnitude, resolution) ~ ' / ' ~ n ~ ')' -%}
    {%- set mean_square = '(' ~ postgres_moving_sum(square, window, 2 * magnitude, resolution) ~ ' / ' ~ n ~ ')' -%}
    {%- set mean_cube = '(' ~ postgres_moving_sum(cube, window, 3 * magnitude, resolution) ~ ' / ' ~ n ~ ')' -%}
    {%- set second = '(' ~ mean_square ~ ' - ' ~ mean ~ ' * ' ~ mean ~ ')' -%}
    case
        when {{ n }} > 2 and {{ second }} > 1e-14 * {{ mean_square }}
            then
                sqrt({{ n }} * ({{ n }} - 1)) / ({{ n }} - 2)
                * (
                    {{ mean_cube }}
                    - 3 * {{ mean }} * {{ mean_square }}
                    + 2 * {{ mean }} * {{ mean }} * {{ mean }}
                )
                / ({{ second }} * sqrt({{ second }}))
    end
{%- endmacro %}
