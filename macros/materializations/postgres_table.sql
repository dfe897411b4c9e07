{#
  Tables on Postgres, in place of dbt's own materialization, for four reasons:

  - Rows are written by `create table as`, which may use parallel workers (`insert ... select`, dbt's
    way under a contract, may not), and constraints and indexes follow once, on the whole table.
  - Tables of the grid get the index they are joined by (join_in_key_order.sql).
  - The table is analysed before anything reads it: without statistics the models after it join as
    if it were nearly empty.
  - Nobody waits for anybody. The new table takes the old one's name in one transaction, as in dbt;
    but renaming needs a moment without readers, and a reader may stay in its transaction for hours.
    After table_swap_wait the rows are exchanged instead (delete and insert in one transaction),
    which readers do not notice: each sees all old rows or all new ones.
#}
{% materialization table, adapter='postgres' %}
    {%- set existing = load_cached_relation(this) -%}
    {%- set target_relation = this.incorporate(type='table') -%}
    {%- set new = make_intermediate_relation(target_relation) -%}
    {%- set backup = make_backup_relation(target_relation, 'table' if existing is none else existing.type) -%}
    {% set grant_config = config.get('grants') %}

    {{ drop_relation_if_exists(load_cached_relation(new)) }}
    {{ drop_relation_if_exists(load_cached_relation(backup)) }}
    {{ run_hooks(pre_hooks, inside_transaction=False) }}
    {{ run_hooks(pre_hooks, inside_transaction=True) }}

    {% call statement('main') -%}
        {{ postgres_create_from_query(new, sql) }}
    {%- endcall %}
    {% do postgres_add_constraints(new) %}
    {% do create_indexes(new) %}
    {% do postgres_index_grid(new) %}
    {% call statement('analyze') -%}
        {#- what is only ever read as a whole needs no fine histograms #}
        {%- if config.get('unlogged', default=false) %} set local default_statistics_target = 20; {% endif %}
        analyze {{ new }}
    {%- endcall %}

    {% set existing = load_cached_relation(existing) if existing is not none else none %}
    {% if existing is not none and existing.is_table %}
        {% call statement('swap') -%}
            {{ postgres_swap(existing, new, backup) }}
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

{# The query's rows as a table; under a contract with exactly its columns and types, in its order. #}
{% macro postgres_create_from_query(relation, sql) -%}
    {%- set contract = config.get('contract') -%}
    {{ get_assert_columns_equivalent(sql) if contract.enforced }}
    create {{ 'unlogged' if config.get('unlogged', default=false) }} table {{ relation }} as
    {%- if contract.enforced %}
    select
        {% for column in model.columns.values() -%}
            cast({{ adapter.quote(column.name) }} as {{ column.data_type }}) as {{ adapter.quote(column.name) }}
            {{- ', ' if not loop.last }}
        {%- endfor %}
    from (
        {{ sql }}
    ) as contracted
    {%- else %}
    {{ sql }}
    {%- endif %}
{%- endmacro %}

{# Constraints of a contract, in one pass over the finished table. #}
{% macro postgres_add_constraints(relation) -%}
    {%- if config.get('contract').enforced -%}
        {%- set parts = [] -%}
        {%- for column in model.columns.values() -%}
            {%- set name = adapter.quote(column.name) -%}
            {%- for constraint in column.constraints or [] -%}
                {%- if constraint.type == 'not_null' -%}
                    {%- do parts.append('alter column ' ~ name ~ ' set not null') -%}
                {%- elif constraint.type == 'check' -%}
                    {%- do parts.append('add check (' ~ constraint.expression ~ ')') -%}
                {%- elif constraint.type in ['primary_key', 'unique'] -%}
                    {%- do parts.append('add ' ~ constraint.type | replace('_', ' ') ~ ' (' ~ name ~ ')') -%}
                {%- else -%}
                    {%- do exceptions.raise_compiler_error(
                        'Column constraint ' ~ constraint.type ~ ' of ' ~ relation ~ ' is not supported here.'
                    ) -%}
                {%- endif -%}
            {%- endfor -%}
        {%- endfor -%}
        {%- for constraint in adapter.render_raw_model_constraints(raw_constraints=model.constraints) -%}
            {%- do parts.append('add ' ~ constraint) -%}
        {%- endfor -%}
        {%- if parts -%}
            {%- call statement('constraints') -%}
                alter table {{ relation }} {{ parts | join(', ') }}
            {%- endcall -%}
        {%- endif -%}
    {%- endif -%}
{%- endmacro %}

{# The key of a table with a row for each of the grid, or for some of them. #}
{% macro postgres_index_grid(relation) -%}
    {%- set names = adapter.get_columns_in_relation(relation) | map(attribute='name') | list -%}
    {%- if 'spell_key' in names and 'session_idx' in names -%}
        {%- call statement('grid_index') -%}
            create unique index on {{ relation }} (spell_key, session_idx)
        {%- endcall -%}
    {%- endif -%}
{%- endmacro %}

{#
  Gives the new table the name of the existing one; where readers hold that for longer than
  table_swap_wait, gives the existing one the new rows. A changed set of columns can only be renamed
  in, and waits.
#}
{% macro postgres_swap(existing, new, backup) -%}
    {%- set columns = [] -%}
    {%- for column in adapter.get_columns_in_relation(new) -%}
        {%- do columns.append(column.quoted ~ ' ' ~ column.data_type) -%}
    {%- endfor -%}
    {%- set existing_columns = [] -%}
    {%- for column in adapter.get_columns_in_relation(existing) -%}
        {%- do existing_columns.append(column.quoted ~ ' ' ~ column.data_type) -%}
    {%- endfor -%}
    {%- set same_columns = columns == existing_columns -%}
    do $swap$
    begin
        {%- if same_columns %}
        perform set_config('lock_timeout', '{{ var("table_swap_wait") }}', true);
        {%- endif %}
        lock table {{ existing }} in access exclusive mode;
        alter table {{ existing }} rename to {{ adapter.quote(backup.identifier) }};
        alter table {{ new }} rename to {{ adapter.quote(existing.identifier) }};
        perform set_config('lock_timeout', '0', true);
    {%- if same_columns %}
    exception when lock_not_available then
        perform set_config('lock_timeout', '0', true);
        delete from {{ existing }};
        insert into {{ existing }} select * from {{ new }};
        drop table {{ new }};
    {%- endif %}
    end $swap$
{%- endmacro %}
