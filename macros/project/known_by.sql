{#
  Keeps the rows known before the var as_of (market local time). With as_of empty every row is
  known. Staging models apply it, so that a build as of a past time sees what was known then.
#}
{% macro known_by(available_at) -%}
    {%- if var('as_of') -%}
        {{ available_at }} < cast('{{ var("as_of") }}' as timestamp)
    {%- else -%}
        true
    {%- endif -%}
{%- endmacro %}
