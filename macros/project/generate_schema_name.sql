{#
  Schemas are exactly staging, intermediate, marts and ml, with the var schema_prefix before them
  for a second build beside the first.
#}
{% macro generate_schema_name(custom_schema_name, node) -%}
    {{ var('schema_prefix') }}{{ custom_schema_name | trim if custom_schema_name else target.schema }}
{%- endmacro %}
