{#
  Views on Postgres: one that says what it said before is left alone. Replacing it would need a
  moment without readers, for nothing.
#}
{% materialization view, adapter='postgres' %}
    {%- set existing = load_cached_relation(this) -%}
    {%- set target_relation = this.incorporate(type='view') -%}
    {%- set new = make_intermediate_relation(target_relation) -%}
    {%- set backup = make_backup_relation(target_relation, 'view' if existing is none else existing.type) -%}
    {% set grant_config = config.get('grants') %}

    {{ drop_relation_if_exists(load_cached_relation(new)) }}
    {{ drop_relation_if_exists(load_cached_relation(backup)) }}
    {{ run_hooks(pre_hooks, inside_transaction=False) }}
    {{ run_hooks(pre_hooks, inside_transaction=True) }}

    {% call statement('main') -%}
        {{ get_create_view_as_sql(new, sql) }}
    {%- endcall %}
    {% set existing = load_cached_relation(existing) if existing is not none else none %}
    {% if existing is not none and existing.is_view and not postgres_exists(existing) %}
        {# dropped with a table it read, which dbt's cache did not see #}
        {% do adapter.drop_relation(existing) %}
        {% set existing = none %}
    {% endif %}
    {% if existing is not none and existing.is_view and postgres_same_view(existing, new) %}
        {% call statement('unchanged') -%}
            drop view {{ new }}
        {%- endcall %}
    {% else %}
        {% if existing is not none %}
            {{ adapter.rename_relation(existing, backup) }}
        {% endif %}
        {{ adapter.rename_relation(new, target_relation) }}
    {% endif %}

    {{ run_hooks(post_hooks, inside_transaction=True) }}
    {% do apply_grants(target_relation, grant_config, should_revoke(existing, full_refresh_mode=True)) %}
    {% do persist_docs(target_relation, model) %}
    {{ adapter.commit() }}
    {{ drop_relation_if_exists(backup) }}
    {{ run_hooks(post_hooks, inside_transaction=False) }}
    {{ return({'relations': [target_relation]}) }}
{% endmaterialization %}

{% macro postgres_same_view(one, other) -%}
    {% set answer = run_query(
        "select pg_get_viewdef(to_regclass('" ~ one ~ "')) = pg_get_viewdef(to_regclass('" ~ other ~ "'))"
    ) %}
    {{ return(answer.rows[0][0] | string | lower == 'true') }}
{%- endmacro %}

{% macro postgres_exists(relation) -%}
    {% set answer = run_query("select to_regclass('" ~ relation ~ "') is not null") %}
    {{ return(answer.rows[0][0] | string | lower == 'true') }}
{%- endmacro %}
