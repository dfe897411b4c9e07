{#
  Columns of fct_features_daily by the role in their meta (models/marts/features/
  fct_features_daily.yml), which is the only list of features. Returns the column nodes in order;
  empty while dbt parses, when there is no graph yet.
    roles   for example ['feature', 'context']; none: every column
#}
{% macro feature_columns(roles=none) %}
    {% set chosen = [] %}
    {% if execute %}
        {% set panel = graph.nodes['model.' ~ project_name ~ '.fct_features_daily'] %}
        {% for column in panel.columns.values() %}
            {% if roles is none or column_meta(column).get('role') in roles %}
                {% do chosen.append(column) %}
            {% endif %}
        {% endfor %}
    {% endif %}
    {{ return(chosen) }}
{% endmacro %}

{# Meta of a column, wherever this dbt version keeps it. #}
{% macro column_meta(column) %}
    {% set config = column.config if column.config is defined and column.config else {} %}
    {{ return(config.get('meta') or column.meta or {}) }}
{% endmacro %}
