{#
  rows_checksum: checksum of the rows of a group, whatever their order, as a text. A NULL is a value
  of its own, every bit of a double counts. Not comparable between engines or versions of one.
    columns   names
  engine_version: the version whose checksums are comparable.
#}
{% macro rows_checksum(columns) -%}
    {{ return(adapter.dispatch('rows_checksum', 'asx_warehouse')(columns)) }}
{%- endmacro %}

{% macro duckdb__rows_checksum(columns) -%}
    cast(bit_xor(hash({{ columns | join(', ') }})) as text)
{%- endmacro %}

{% macro postgres__rows_checksum(columns) -%}
    cast(bit_xor(hash_record_extended(row({{ columns | join(', ') }}), 0)) as text)
{%- endmacro %}

{% macro engine_version() -%}
    {{ return(adapter.dispatch('engine_version', 'asx_warehouse')()) }}
{%- endmacro %}

{% macro duckdb__engine_version() -%}
    'duckdb ' || version()
{%- endmacro %}

{% macro postgres__engine_version() -%}
    'postgres ' || current_setting('server_version')
{%- endmacro %}
