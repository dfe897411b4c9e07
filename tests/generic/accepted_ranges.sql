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

    rejected as (

        select
            {%- for name, bound in bounds.items() %}
                {%- set value = 'case when ' ~ outside_range(name, bound[0], bound[1]) ~ ' then ' ~ name ~ ' end' %}
                count({{ value }}) as rows_{{ name }},
                min({{ value }}) as lowest_{{ name }},
                max({{ value }}) as highest_{{ name }},
            {%- endfor %}
            count(*) as all_rows
        from checked

    ),

    listed as (

        {% for name in bounds -%}
            select
                '{{ name }}' as column_name,
                rows_{{ name }} as rejected_rows,
                lowest_{{ name }} as lowest_rejected,
                highest_{{ name }} as highest_rejected
            from rejected
            {{ 'union all' if not loop.last }}
        {% else -%}
            select
                'none' as column_name,
                0 as rejected_rows,
                cast(null as double precision) as lowest_rejected,
                cast(null as double precision) as highest_rejected
        {% endfor %}

    )

    select
        column_name,
        rejected_rows,
        lowest_rejected,
        highest_rejected
    from listed
    where rejected_rows > 0
{% endtest %}
