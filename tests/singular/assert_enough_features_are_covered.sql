-- Fewer than min_covered_features features with a value on 40 % of the universe's traded rows: the
-- panel has become too thin to learn from. Nothing is asked of an empty warehouse.
with feature_coverage as (

    select * from {{ ref('fct_feature_coverage') }}

),

counted as (

    select
        sum(case when coverage >= 0.4 then 1 else 0 end) as covered_features,
        max(universe_rows) as universe_rows
    from feature_coverage
    where role = 'feature'

)

select
    covered_features,
    universe_rows
from counted
where
    universe_rows > 0
    and covered_features < {{ var('min_covered_features') }}
