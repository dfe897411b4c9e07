{#
  Fails for a feature that has one value for ever for most symbols, which is what today's value joined
  to history looks like. Judged are symbols with more than `sessions` values; a constant zero (a company
  that pays no dividend) is no sign of it, nor one constant for all (shares that trade every session).
    sessions   values a symbol must have
    share      share of such symbols, above which the feature fails
    columns    columns to check; none: the features of the dictionary
#}
{% test no_static_feature(model, sessions, share, columns=none) %}
    {%- set flags = [] -%}
    {%- set names = columns -%}
    {%- if columns is none -%}
        {%- set names = feature_columns(['feature']) | map(attribute='name') | list -%}
        {%- set flags = feature_columns() | selectattr('data_type', 'equalto', 'boolean') | map(attribute='name') | list -%}
    {%- endif -%}
    with panel as (

        select * from {{ model }}

    ),

    spread as (

        select
            symbol
            {%- for name in names %}
                {%- set value = 'cast(' ~ name ~ ' as integer)' if name in flags else name %},
                count({{ name }}) as values_{{ name }},
                min({{ value }}) as lowest_{{ name }},
                max({{ value }}) as highest_{{ name }}
            {%- endfor %}
        from panel
        group by symbol

    ),

    totals as (

        select
            {%- for name in names %}
                {%- set constant = 'values_' ~ name ~ ' > ' ~ sessions ~ ' and lowest_' ~ name ~ ' = highest_' ~ name %}
                sum(case when values_{{ name }} > {{ sessions }} then 1 else 0 end) as symbols_{{ name }},
                sum(case when {{ constant }} and lowest_{{ name }} != 0 then 1 else 0 end) as static_{{ name }},
                min(case when {{ constant }} then lowest_{{ name }} end)
                < max(case when {{ constant }} then lowest_{{ name }} end) as differs_{{ name }},
            {%- endfor %}
            count(*) as all_symbols
        from spread

    ),

    counted as (

        {% for name in names -%}
            select
                '{{ name }}' as feature,
                symbols_{{ name }} as symbols,
                static_{{ name }} as static_symbols,
                differs_{{ name }} as differs
            from totals
            {{ 'union all' if not loop.last }}
        {% else -%}
            select
                'none' as feature,
                0 as symbols,
                0 as static_symbols,
                false as differs
        {% endfor %}

    )

    select
        feature,
        symbols,
        static_symbols
    from counted
    where static_symbols > {{ share }} * symbols and differs
{% endtest %}
