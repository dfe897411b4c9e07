{#
  Up to three counts in one number, so that one rolling sum adds them all: a unit of count i (0, 1, 2) is
  2^(16 i). Sums are whole numbers that a double holds to the last unit, as long as no count of a frame
  reaches 2^16, and none of a spell 2^20.

    packed_unit(i)             what one more of count i adds
    unpacked_count(packed, i)  count i of a sum
#}
{% macro packed_unit(i) -%}
    {{ 2 ** (16 * i) }}
{%- endmacro %}

{% macro unpacked_count(packed, i) -%}
    {%- if i < 2 -%}
        (floor({{ packed }} / {{ packed_unit(i) }}) - floor({{ packed }} / {{ packed_unit(i + 1) }}) * {{ packed_unit(1) }})
    {%- else -%}
        floor({{ packed }} / {{ packed_unit(i) }})
    {%- endif -%}
{%- endmacro %}
