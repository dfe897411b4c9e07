{#
  One spelling of a symbol: upper case, no blanks around it, the market's suffix (.AX) stripped.
#}
{% macro normalise_symbol(column) -%}
    {%- set suffix = market_var('symbol_suffix') -%}
    {%- if suffix -%}
        case
            when right(upper(trim({{ column }})), {{ suffix | length }}) = '{{ suffix | upper }}'
                then left(upper(trim({{ column }})), length(trim({{ column }})) - {{ suffix | length }})
            else upper(trim({{ column }}))
        end
    {%- else -%}
        upper(trim({{ column }}))
    {%- endif -%}
{%- endmacro %}
