{#
  Schemas are exactly staging, intermediate, marts and ml, with the var schema_prefix before them
  for a second build beside the first. What snapshots have kept cannot be built again: the var
  snapshot_prefix lets a second build read that of the first.
#}
{% macro generate_schema_name(custom_schema_name, node) -%}
    {%- set prefix = var('schema_prefix') -%}
    {%- if node.resource_type == 'snapshot' and var('snapshot_prefix') is not none -%}
        {%- set prefix = var('snapshot_prefix') -%}
    {%- endif -%}
    {{ prefix }}{{ custom_schema_name | trim if custom_schema_name else target.schema }}
{%- endmacro %}
