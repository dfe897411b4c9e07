{#
  What the model learns from: traded rows of the universe with a label. Features and context columns
  come from the dictionary; the latest tables have no part in it. A view: it is read once, in full.
#}
{{ config(materialized='view', post_hook="{{ grant_to_role('ml_writer') }}") }}

with features_daily as (

    select * from {{ ref('fct_features_daily') }}

),

labels as (

    select * from {{ ref('int_labels') }}

)

select
    features_daily.symbol,
    features_daily.trade_date,
    features_daily.security_id,
    features_daily.session_idx,
    features_daily.max_available_at,
    {% for column in feature_columns(['feature', 'context']) -%}
        features_daily.{{ column.name }},
    {% endfor -%}
    labels.label_status,
    labels.label_end_date,
    labels.label_end_idx,
    labels.return_1m_fwd,
    labels.return_1m_fwd_sign,
    labels.return_1m_fwd_lag1
from features_daily
inner join labels
    on
        features_daily.security_id = labels.security_id
        and features_daily.session_idx = labels.session_idx
where
    features_daily.is_traded
    and features_daily.is_in_universe
    and labels.return_1m_fwd is not null
