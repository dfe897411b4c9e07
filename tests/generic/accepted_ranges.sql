{#
  Fails for each column with a value outside its range, with a NaN or with an infinity: accepted_range
  for many columns in one pass over the rows. NULLs pass.
    ranges   {column: [lowest, highest]}, null where open; none: every number of the feature
             dictionary, in the accepted_range of its meta, where it has one
#}
{% test accepted_ranges(model, ranges=none) %}
    {%- set bounds = {} -%}
    {%- if ranges is not none -%}
        {%- do bounds.update(ranges) -%}
    {%- else -%}
        {%- for column in feature_columns() if column.data_type == 'double precision' -%}
            {%- do bounds.update({column.name: column_meta(column).get('accepted_range') or [none, none]}) -%}
        {%- endfor -%}
    {%- endif -%}
    with checked as (

        select * from {{ model }}

    ),

    -- a value outside is the least or the greatest, a NaN the greatest
    extremes as (

        select
            {%- for name in bounds %}
                min({{ name }}) as lowest_{{ name }},
                max({{ name }}) as highest_{{ name }},
            {%- endfor %}
            count(*) as all_rows
        from checked

    ),

    listed as (

        {% for name in bounds -%}
            select
                '{{ name }}' as column_name,
                lowest_{{ name }} as lowest_value,
                highest_{{ name }} as highest_value
            from extremes
            where
                {{ outside_range('lowest_' ~ name, *bounds[name]) }}
                or {{ outside_range('highest_' ~ name, *bounds[name]) }}
            {{ 'union all' if not loop.last }}
        {% else -%}
            select
                'none' as column_name,
                cast(null as double precision) as lowest_value,
                cast(null as double precision) as highest_value
            where false
        {% endfor %}

    )

    select
        column_name,
        lowest_value,
        highest_value
    from listed
{% endtest %}
