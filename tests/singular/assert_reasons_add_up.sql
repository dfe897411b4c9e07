-- The parts of a score are the score, no more and no less: log-odds of the probability, and the
-- expected return.
with reasons as (

    select * from {{ ref('stg_reasons') }}

),

predictions as (

    select * from {{ ref('stg_predictions') }}

),

summed as (

    select
        run_id,
        symbol,
        trade_date,
        head,
        sum(contribution) as score
    from reasons
    group by run_id, symbol, trade_date, head

),

compared as (

    select
        summed.run_id,
        summed.symbol,
        summed.trade_date,
        summed.head,
        summed.score,
        case
            when summed.head = 'classifier'
                then ln(predictions.probability_up / (1 - predictions.probability_up))
            else predictions.expected_return
        end as wanted
    from summed
    left join predictions
        on
            summed.run_id = predictions.run_id
            and summed.symbol = predictions.symbol
            and summed.trade_date = predictions.trade_date

)

select
    run_id,
    symbol,
    trade_date,
    head,
    score,
    wanted
from compared
where wanted is null or abs(score - wanted) > 1e-9
