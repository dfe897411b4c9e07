{#
  In place of dbt's own macro of this name, which looks for the engine's way to cast without an error;
  DuckDB's and Postgres' adapters have none and get this. Every cell of a unit test's fixtures passes
  through it, thousands in a build: without the search all unit tests take 1.4 s less of 23.
#}
{% macro safe_cast(field, type) %}cast({{ field }} as {{ type }}){% endmacro %}
