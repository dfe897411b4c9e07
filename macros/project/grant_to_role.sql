{#
  Grants select on this model to a role of `asxw grant`, where the database has that role; a post
  hook, so that a rebuilt view is readable from the moment it exists.
#}
{% macro grant_to_role(role) -%}
    {{ return(adapter.dispatch('grant_to_role', 'asx_warehouse')(role)) }}
{%- endmacro %}

{% macro default__grant_to_role(role) -%}
{%- endmacro %}

{% macro postgres__grant_to_role(role) -%}
    do $$
    begin
        if exists (select 1 from pg_roles where rolname = '{{ role }}') then
            grant select on {{ this }} to {{ role }};
        end if;
    end $$
{%- endmacro %}
