{#
  What each feature family is worth, of every ablation: the statistic with the
  family less without it, and whether the interval leaves any doubt.
#}
with ablations as (

    select * from {{ ref('stg_model_ablations') }}

),

recency as (

    select
        ablation_id,
        row_number() over (
            partition by label, first_session
            order by created_at desc nulls last, ablation_id
        ) as recency
    from (
        select
            ablation_id,
            label,
            first_session,
            max(created_at) as created_at
        from ablations
        group by ablation_id, label, first_session
    ) as runs

)

select
    ablations.ablation_id,
    ablations.kind,
    ablations.family,
    ablations.segment,
    ablations.metric,
    ablations.value_with,
    ablations.value_without,
    ablations.delta,
    ablations.ci_low,
    ablations.ci_high,
    case
        when ablations.ci_low is null or ablations.ci_high is null then 'unknown'
        when ablations.ci_low > 0 then 'helps'
        when ablations.ci_high < 0 then 'hurts'
        else 'no difference shown'
    end as verdict,
    ablations.n as n_sessions,
    ablations.n_features,
    ablations.n_folds,
    ablations.n_rows,
    ablations.first_session,
    ablations.last_session,
    ablations.label,
    ablations.created_at,
    ablations.panel_checksum,
    ablations.git_commit,
    recency.recency = 1 as is_newest
from ablations
inner join recency
    on ablations.ablation_id = recency.ablation_id
where ablations.fold = 0
