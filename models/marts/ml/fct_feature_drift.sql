{#
  Does the model still see what it was trained on? For the run in use (the champion, or the newest
  where there is none), twelve sessions spread evenly over its training history are put beside the
  latest 21.

  Population stability index: the training values are cut into ten parts of equal size, and the index
  is the sum of (r - t) ln(r / t) over the parts, with r and t the shares of recent and training
  values, at least 0.0001 each (Siddiqi, Credit Risk Scorecards, 2006: below 0.1 nothing, from 0.25
  on a major shift). Missing values are no part of it: a source that began late would drown the
  rest. They show in the two coverages.
#}
{% set features = feature_columns(['feature']) %}

with features_daily as (

    select * from {{ ref('fct_features_daily') }}

),

model_runs as (

    select * from {{ ref('dim_model_runs') }}

),

sessions as (

    select
        trade_date,
        session_idx
    from {{ ref('dim_sessions') }}
    where session_idx is not null

),

run_in_use as (

    select
        run_id,
        first_session,
        last_session
    from (
        select
            run_id,
            first_session,
            last_session,
            row_number() over (
                order by is_champion desc, created_at desc nulls last, run_id
            ) as recency
        from model_runs
    ) as ordered
    where recency = 1

),

trained_on as (

    select
        run_in_use.run_id,
        sessions.session_idx,
        ntile(12) over (order by sessions.session_idx) as part
    from run_in_use
    inner join sessions
        on sessions.trade_date between run_in_use.first_session and run_in_use.last_session

),

latest as (

    select
        run_in_use.run_id,
        sessions.session_idx,
        row_number() over (order by sessions.session_idx desc) as age
    from run_in_use
    cross join sessions

),

compared_sessions as (

    select
        run_id,
        'training' as period,
        max(session_idx) as session_idx
    from trained_on
    group by run_id, part
    union all
    select
        run_id,
        'recent' as period,
        session_idx
    from latest
    where age <= 21

),

compared_rows as (

    select
        compared_sessions.run_id,
        compared_sessions.period
        {%- for column in features %},
        features_daily.{{ column.name }}
        {%- endfor %}
    from features_daily
    inner join compared_sessions
        on features_daily.session_idx = compared_sessions.session_idx
    where features_daily.is_traded and features_daily.is_in_universe

),

listed_values as (

    {% for column in features -%}
        select
            run_id,
            period,
            '{{ column.name }}' as feature,
            '{{ column_meta(column)["family"] }}' as family,
            {% if column.data_type == 'boolean' -%}
                cast(cast({{ column.name }} as integer) as double precision) as value
            {%- else -%}
                cast({{ column.name }} as double precision) as value
            {%- endif %}
        from compared_rows
        {{ 'union all' if not loop.last }}
    {% else -%}
        select
            run_id,
            period,
            cast(null as text) as feature,
            cast(null as text) as family,
            cast(null as double precision) as value
        from compared_rows
    {% endfor %}

),

-- as a model reads them, to seven digits and without rounding around 0: what is equal but for its last
-- bits, which differ by engine, falls in the same tenth
feature_values as (

    select
        run_id,
        period,
        feature,
        family,
        case
            when abs(value) < 1e-13 then 0
            when abs(value) < 3e38 then cast(cast(value as real) as double precision)
            else value
        end as value
    from listed_values

),

training_values as (

    select
        run_id,
        feature,
        value,
        row_number() over of_feature_in_order as place,
        count(*) over of_feature as n_values
    from feature_values
    where period = 'training' and value is not null
    window
        of_feature as (partition by run_id, feature),
        of_feature_in_order as (partition by run_id, feature order by value)

),

-- the largest of the lowest tenth, of the lowest two tenths, ...: values, never something between two,
-- so that both engines cut alike
training_deciles as (

    select
        run_id,
        feature,
        {% for tenth in range(1, 10) -%}
            max(case when 10 * (place - 1) < {{ tenth }} * n_values then value end)
                as decile_{{ tenth }}{{ ',' if not loop.last }}
        {% endfor %}
    from training_values
    group by run_id, feature

),

parts as (

    select
        feature_values.run_id,
        feature_values.feature,
        feature_values.family,
        feature_values.period,
        case
            when feature_values.value is null then 0
            {% for tenth in range(1, 10) -%}
                when feature_values.value <= training_deciles.decile_{{ tenth }} then {{ tenth }}
            {% endfor -%}
            else 10
        end as part
    from feature_values
    left join training_deciles
        on
            feature_values.run_id = training_deciles.run_id
            and feature_values.feature = training_deciles.feature

),

counted as (

    select
        run_id,
        feature,
        family,
        part,
        sum(case when period = 'training' then 1 else 0 end) as training_rows,
        sum(case when period = 'recent' then 1 else 0 end) as recent_rows
    from parts
    group by run_id, feature, family, part

),

coverage as (

    select
        run_id,
        feature,
        family,
        cast(sum(training_rows) as bigint) as training_rows,
        cast(sum(recent_rows) as bigint) as recent_rows,
        cast(sum(case when part > 0 then training_rows else 0 end) as double precision)
            as training_values,
        cast(sum(case when part > 0 then recent_rows else 0 end) as double precision)
            as recent_values
    from counted
    group by run_id, feature, family

),

shares as (

    select
        counted.run_id,
        counted.feature,
        greatest(counted.training_rows / coverage.training_values, 0.0001) as training_share,
        greatest(counted.recent_rows / coverage.recent_values, 0.0001) as recent_share
    from counted
    inner join coverage
        on
            counted.run_id = coverage.run_id
            and counted.feature = coverage.feature
    where
        counted.part > 0
        and coverage.training_values > 0
        and coverage.recent_values > 0

),

stability as (

    select
        run_id,
        feature,
        sum((recent_share - training_share) * ln(recent_share / training_share))
            as population_stability_index
    from shares
    group by run_id, feature

)

select
    coverage.run_id,
    coverage.feature,
    coverage.family,
    coverage.training_rows,
    coverage.recent_rows,
    coverage.training_values / nullif(coverage.training_rows, 0) as training_coverage,
    coverage.recent_values / nullif(coverage.recent_rows, 0) as recent_coverage,
    stability.population_stability_index,
    case
        when stability.population_stability_index < 0.1 then 'none'
        when stability.population_stability_index < 0.25 then 'moderate'
        when stability.population_stability_index >= 0.25 then 'major'
    end as drift
from coverage
left join stability
    on
        coverage.run_id = stability.run_id
        and coverage.feature = stability.feature
