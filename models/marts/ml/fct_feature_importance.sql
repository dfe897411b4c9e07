{#
  What each feature was worth, by three measures, and whether the folds agree on it: the correlation of
  two folds' rankings, over the features both kept, and its mean over all pairs of folds.
#}
with importance as (

    select * from {{ ref('stg_model_importance') }}

),

permutation_importance as (

    select * from {{ ref('stg_permutation_importance') }}

),

coverage as (

    select * from {{ ref('fct_feature_coverage') }}

),

measured as (

    select
        run_id,
        head,
        'gain' as measure,
        fold,
        feature,
        gain_share as importance
    from importance
    union all
    select
        run_id,
        head,
        'splits' as measure,
        fold,
        feature,
        splits / nullif(
            cast(sum(splits) over (partition by run_id, head, fold) as double precision), 0
        ) as importance
    from importance
    union all
    select
        run_id,
        'classifier' as head,
        'permutation' as measure,
        fold,
        feature,
        auc_loss as importance
    from permutation_importance

),

ranked as (

    select
        run_id,
        head,
        measure,
        fold,
        feature,
        importance,
        -- ties at their average: the first rank of the peers, and half of what follows
        rank() over by_importance
        + (count(*) over same_importance - 1) / cast(2 as double precision) as importance_rank
    from measured
    window
        by_importance as (
            partition by run_id, head, measure, fold
            order by importance desc nulls last
        ),
        same_importance as (partition by run_id, head, measure, fold, importance)

),

pairs as (

    select
        one.run_id,
        one.head,
        one.measure,
        one.fold as one_fold,
        other.fold as other_fold,
        corr(one.importance_rank, other.importance_rank) as rank_correlation
    from ranked as one
    inner join ranked as other
        on
            one.run_id = other.run_id
            and one.head = other.head
            and one.measure = other.measure
            and one.feature = other.feature
            and one.fold < other.fold
    where one.fold > 0
    group by one.run_id, one.head, one.measure, one.fold, other.fold

),

agreement as (

    select
        run_id,
        head,
        measure,
        avg({{ finite('rank_correlation') }}) as fold_rank_correlation
    from pairs
    group by run_id, head, measure

),

folds as (

    select
        run_id,
        count(distinct fold) as n_folds
    from importance
    where fold > 0
    group by run_id

),

summarised as (

    select
        run_id,
        head,
        measure,
        feature,
        avg(case when fold > 0 then importance end) as mean_importance,
        stddev_samp(case when fold > 0 then importance end) as sd_importance,
        min(case when fold > 0 then importance end) as lowest_importance,
        max(case when fold > 0 then importance end) as highest_importance,
        avg(case when fold > 0 then importance_rank end) as mean_rank,
        sum(case when fold > 0 and importance_rank <= 10 then 1 else 0 end) as folds_in_top_ten,
        count(case when fold > 0 then 1 end) as folds_with_feature,
        max(case when fold = 0 then importance end) as final_importance,
        max(case when fold = 0 then importance_rank end) as final_rank
    from ranked
    group by run_id, head, measure, feature

)

select
    summarised.run_id,
    summarised.head,
    summarised.measure,
    summarised.feature,
    coverage.family,
    cast(
        row_number() over (
            partition by summarised.run_id, summarised.head, summarised.measure
            order by
                summarised.mean_importance desc nulls last,
                summarised.final_importance desc nulls last,
                summarised.feature
        ) as bigint
    ) as importance_rank,
    summarised.mean_importance,
    summarised.sd_importance,
    summarised.lowest_importance,
    summarised.highest_importance,
    summarised.mean_rank,
    summarised.folds_in_top_ten / cast(folds.n_folds as double precision) as share_of_folds_in_top_ten,
    summarised.folds_with_feature as n_folds_with_feature,
    folds.n_folds,
    summarised.final_importance,
    summarised.final_rank,
    agreement.fold_rank_correlation
from summarised
inner join folds
    on summarised.run_id = folds.run_id
left join agreement
    on
        summarised.run_id = agreement.run_id
        and summarised.head = agreement.head
        and summarised.measure = agreement.measure
left join coverage
    on summarised.feature = coverage.feature
