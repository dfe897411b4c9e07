{#
  What each customary mistake is worth: every protocol beside the honest one of the same market (the
  last rung), and beside the next rung, which takes one mistake away.
#}
with protocol_ladder as (

    select * from {{ ref('stg_protocol_ladder') }}

)

select
    market,
    rung,
    name,
    mistake,
    split,
    todays_fundamentals,
    unknown_is_down,
    market_columns,
    auc,
    auc - last_value(auc) over to_the_honest as auc_above_honest,
    auc - lead(auc) over in_market as mistake_worth,
    session_auc,
    session_auc_ci_low,
    session_auc_ci_high,
    n_rows,
    n_sessions,
    n_folds,
    trees,
    session_stride,
    symbol_stride,
    git_commit,
    created_at
from protocol_ladder
window
    in_market as (partition by market order by rung),
    to_the_honest as (
        partition by market
        order by rung
        rows between unbounded preceding and unbounded following
    )
