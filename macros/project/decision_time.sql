{#
  decision_at: the moment of a session at which its row is fixed, in the market's local time.
  usable_on: the first calendar day whose decision time lies after the given knowledge time; the
  fact is usable from the first market session on or after that day.
#}
{% macro decision_at(trade_date) -%}
    (cast({{ trade_date }} as timestamp) + cast('{{ market_var("decision_time") }}' as interval))
{%- endmacro %}

{% macro usable_on(available_at) -%}
    case
        when cast({{ available_at }} as time) < cast('{{ market_var("decision_time") }}' as time)
            then cast({{ available_at }} as date)
        else cast({{ available_at }} as date) + 1
    end
{%- endmacro %}
