{#
  Checksum of the models and seeds that fct_features_daily is made of, as dbt read them. Macros have
  none in dbt's graph: a changed macro alone does not change it.
#}
{% macro panel_code_checksum() %}
    {% if not execute %}
        {{ return('') }}
    {% endif %}
    {% set waiting = ['model.' ~ project_name ~ '.fct_features_daily'] %}
    {% set seen = [] %}
    {% for _ in range(1000) if waiting %}
        {% set name = waiting.pop() %}
        {% if name in graph.nodes and name not in seen %}
            {% do seen.append(name) %}
            {% do waiting.extend(graph.nodes[name].depends_on.nodes) %}
        {% endif %}
    {% endfor %}
    {% set sums = [] %}
    {% for name in seen | sort %}
        {% do sums.append(name ~ ' ' ~ graph.nodes[name].checksum.checksum) %}
    {% endfor %}
    {{ return(local_md5(sums | join('\n'))) }}
{% endmacro %}
