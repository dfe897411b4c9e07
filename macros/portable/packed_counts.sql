{#
  Up to three counts in one number, so that one rolling sum adds them all: a unit of count i (0, 1, 2) is
  2^(16 i). Sums are whole numbers that a double holds to the last unit, as long as no count of a frame
  reaches 2^16, and none of a spell 2^20.

    packed_counts(conditions)  of a group: how many rows meet each of up to three conditions
    unpacked_count(packed, i)  count i of a sum of such numbers
#}
{% macro packed_counts(conditions) -%}
    {%- if conditions | length > 3 -%}
        {{ exceptions.raise_compiler_error(
            'packed_counts() has room for three counts, not ' ~ conditions | length ~
            ': a sum of a fourth would not be exact in a double'
        ) }}
    {%- endif -%}
    sum(
        {%- for condition in conditions -%}
            case when {{ condition }} then {{ packed_unit(loop.index0) }} else 0 end
            {{- ' + ' if not loop.last }}
        {%- endfor -%}
    )
{%- endmacro %}

{% macro unpacked_count(packed, i) -%}
    {%- if i < 2 -%}
        (floor({{ packed }} / {{ packed_unit(i) }}) - floor({{ packed }} / {{ packed_unit(i + 1) }}) * {{ packed_unit(1) }})
    {%- else -%}
        floor({{ packed }} / {{ packed_unit(i) }})
    {%- endif -%}
{%- endmacro %}

{% macro packed_unit(i) -%}
    {{ 2 ** (16 * i) }}
{%- endmacro %}
