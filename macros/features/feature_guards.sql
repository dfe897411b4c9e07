{#
  The rules every windowed feature obeys (FEATURES: half-traded rule, break guard). They read four
  columns of int_daily_grid that family models carry along:
    spell_session         1 for the first session of a spell
    traded_sessions       running count of traded sessions in the spell
    sessions_since_break  0 on the session of the latest unresolved price break, NULL without one

  unbroken(sessions): no unresolved break among the latest `sessions` steps. A lag of k sessions or
  a window of n returns needs unbroken(k) or unbroken(n); a window of n prices spans n-1 steps.

  half_traded(n, lagged): at least half of the latest n sessions were traded; `lagged` names
  traded_sessions n sessions ago, NULL where the spell is younger.
#}
{% macro unbroken(sessions) -%}
    coalesce(sessions_since_break >= {{ sessions }}, true)
{%- endmacro %}

{% macro half_traded(sessions, lagged) -%}
    2 * (traded_sessions - coalesce({{ lagged }}, 0)) >= {{ sessions }}
{%- endmacro %}

{#
  In a stage that selects from with_rolling():
    traded_lags(sessions)   for each n, traded_sessions n sessions ago as traded_lag_n (half_traded)
    quote_lags(sessions)    for each k, close and capital factor k sessions ago, as close_lag_k and
                            factor_lag_k
#}
{% macro traded_lags(sessions) -%}
    {% for n in sessions -%}
        {{ lagged('traded_sessions', n) }} as traded_lag_{{ n }}{{ ', ' if not loop.last }}
    {%- endfor %}
{%- endmacro %}

{% macro quote_lags(sessions) -%}
    {% for k in sessions -%}
        {{ lagged('close', k) }} as close_lag_{{ k }},
        {{ lagged('capital_factor', k) }} as factor_lag_{{ k }}{{ ', ' if not loop.last }}
    {%- endfor %}
{%- endmacro %}
