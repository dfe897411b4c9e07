{#
  A headline as the rules of seeds/announcement_rules.csv read it: lower case, everything but
  letters, digits and $ one blank, a blank before and after. So '% halt %' matches whole words.
#}
{% macro normalise_headline(column) -%}
    ' ' || trim(regexp_replace(lower({{ column }}), '[^a-z0-9$]+', ' ', 'g')) || ' '
{%- endmacro %}
