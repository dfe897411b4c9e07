{#
  Signal of a probability and an expected return: both must agree for a buy or a sell.
  Thresholds are vars.
#}
{% macro signal_class(probability, expected_return) -%}
    case
        when
            {{ probability }} >= {{ var('signal_strong_buy_probability') }}
            and {{ expected_return }} > {{ var('signal_buy_return') }}
            then 'STRONG_BUY'
        when
            {{ probability }} >= {{ var('signal_buy_probability') }}
            and {{ expected_return }} > {{ var('signal_buy_return') }}
            then 'BUY'
        when
            {{ probability }} <= {{ var('signal_strong_sell_probability') }}
            and {{ expected_return }} < {{ var('signal_sell_return') }}
            then 'STRONG_SELL'
        when
            {{ probability }} <= {{ var('signal_sell_probability') }}
            and {{ expected_return }} < {{ var('signal_sell_return') }}
            then 'SELL'
        else 'HOLD'
    end
{%- endmacro %}
