{#
  At the end of a model whose rows come in another order and are joined by (spell_key, session_idx):
  on Postgres they are stored in the order of that key, because reading them by its index from all
  over the table takes four times as long. DuckDB has no use for an order.
#}
{% macro in_key_order() -%}
    {{ return(adapter.dispatch('in_key_order', 'asx_warehouse')()) }}
{%- endmacro %}

{% macro default__in_key_order() -%}
{%- endmacro %}

{% macro postgres__in_key_order() -%}
    order by spell_key, session_idx
{%- endmacro %}
