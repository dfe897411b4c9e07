{{ config(pre_hook="{{ join_in_key_order() }}") }}

with daily_grid as (

    select * from {{ ref('int_daily_grid') }}

),

universe as (

    select * from {{ ref('int_universe') }}

),

fundamental_daily as (

    select * from {{ ref('int_fundamental_daily') }}

),

fundamental_features as (

    select * from {{ ref('int_fundamental_features') }}

),

verdict_knowledge as (

    select * from {{ ref('int_verdict_knowledge') }}

),

momentum_features as (

    select * from {{ ref('int_momentum_features') }}

),

volatility_features as (

    select * from {{ ref('int_volatility_features') }}

),

liquidity_features as (

    select * from {{ ref('int_liquidity_features') }}

),

relative_features as (

    select * from {{ ref('int_relative_features') }}

),

rank_features as (

    select * from {{ ref('int_rank_features') }}

),

macro_daily as (

    select * from {{ ref('int_macro_daily') }}

),

announcement_features as (

    select * from {{ ref('int_announcement_features') }}

),

short_features as (

    select * from {{ ref('int_short_features') }}

),

final as (

    select
        daily_grid.symbol,
        daily_grid.trade_date,
        daily_grid.security_id,
        daily_grid.session_idx,
        daily_grid.spell,
        daily_grid.spell_session as sessions_of_history,
        greatest(
            fundamental_daily.available_at,
            universe.sector_available_at,
            verdict_knowledge.available_at,
            macro_daily.available_at,
            announcement_features.available_at,
            short_features.available_at
        ) as max_available_at,
        fundamental_daily.fund_available_at,
        fundamental_daily.fund_period_end,
        fundamental_daily.fundamentals_basis,
        fundamental_daily.market_cap_source,
        universe.kind,
        universe.sector,
        daily_grid.close,
        daily_grid.volume,
        fundamental_daily.market_cap,
        daily_grid.is_traded,
        universe.is_in_universe,
        daily_grid.is_suspect_break,
        momentum_features.ret_1d,
        momentum_features.mom_5,
        momentum_features.mom_1,
        momentum_features.mom_3,
        momentum_features.mom_6,
        momentum_features.mom_12,
        momentum_features.mom_12_1,
        momentum_features.sma_ratio,
        momentum_features.price_to_sma_50,
        momentum_features.price_to_sma_200,
        momentum_features.trend_200,
        momentum_features.sma200_slope,
        momentum_features.sma200_slope_pos,
        momentum_features.drawdown_252,
        momentum_features.range_pos_20,
        momentum_features.rsi_14,
        momentum_features.gap_1d,
        volatility_features.vol_30,
        volatility_features.vol_60,
        volatility_features.vol_90,
        volatility_features.vol_ratio_30_90,
        volatility_features.downside_vol_60,
        volatility_features.skew_ret_60,
        volatility_features.max_ret_21,
        volatility_features.atr_pct,
        volatility_features.atr_14,
        liquidity_features.adv_20_median,
        liquidity_features.adv_20_log,
        liquidity_features.adv_zscore,
        liquidity_features.volume_ratio_5_60,
        liquidity_features.volume_skew_60,
        liquidity_features.amihud_21,
        liquidity_features.zero_ret_frac_60,
        liquidity_features.traded_frac_60,
        liquidity_features.turnover_21,
        liquidity_features.price_log,
        relative_features.mkt_ret_1d,
        relative_features.beta_252,
        relative_features.idio_vol_60,
        momentum_features.mom_1 - relative_features.market_return_21d as rel_mom_1,
        momentum_features.mom_3 - relative_features.market_return_63d as rel_mom_3,
        rank_features.sector_rel_mom_1,
        rank_features.mom_1_rank,
        rank_features.mom_12_1_rank,
        rank_features.vol_60_rank,
        rank_features.adv_20_rank,
        rank_features.size_rank,
        fundamental_daily.pe_ratio,
        fundamental_daily.pb_ratio,
        fundamental_daily.eps,
        fundamental_daily.roe,
        fundamental_daily.debt_to_equity,
        fundamental_daily.div_yield,
        fundamental_daily.revenue_growth_yoy,
        fundamental_daily.profit_margin,
        fundamental_daily.current_ratio,
        fundamental_daily.quick_ratio,
        fundamental_daily.eps_growth,
        fundamental_daily.free_cash_flow,
        fundamental_daily.market_cap_log,
        fundamental_daily.pe_inverse,
        fundamental_daily.book_to_price,
        fundamental_daily.fcf_yield,
        fundamental_features.pe_ratio_zscore,
        fundamental_features.pb_ratio_zscore,
        fundamental_features.pe_inverse_zscore,
        fundamental_features.financial_health_score,
        fundamental_features.value_score,
        fundamental_features.quality_score,
        fundamental_daily.roe_trend_4,
        fundamental_daily.eps_trend_4,
        fundamental_daily.margin_trend_4,
        fundamental_daily.fund_age_days,
        macro_daily.rba_cash_rate,
        macro_daily.cpi_yoy,
        macro_daily.unemployment,
        macro_daily.yield_2y,
        macro_daily.yield_10y,
        macro_daily.yield_curve_slope,
        macro_daily.delta_cpi,
        macro_daily.delta_rba_rate,
        macro_daily.delta_yield_10y,
        macro_daily.delta_yield_curve_slope,
        announcement_features.ann_count_1d,
        announcement_features.ann_count_21d,
        announcement_features.price_sensitive_21d,
        announcement_features.days_since_price_sensitive,
        announcement_features.ann_sentiment_21d,
        announcement_features.ann_confidence_21d,
        announcement_features.event_guidance_63d,
        announcement_features.event_dividend_63d,
        announcement_features.event_acquisition_63d,
        announcement_features.event_earnings_63d,
        announcement_features.event_capital_raising_63d,
        announcement_features.event_trading_halt_63d,
        announcement_features.stance_bullish_63d,
        announcement_features.stance_bearish_63d,
        announcement_features.stance_neutral_63d,
        announcement_features.sentiment_composite,
        short_features.short_pct,
        short_features.short_pct_chg_21d
    from daily_grid
    inner join universe
        on
            daily_grid.spell_key = universe.spell_key
            and daily_grid.session_idx = universe.session_idx
    inner join momentum_features
        on
            daily_grid.spell_key = momentum_features.spell_key
            and daily_grid.session_idx = momentum_features.session_idx
    inner join volatility_features
        on
            daily_grid.spell_key = volatility_features.spell_key
            and daily_grid.session_idx = volatility_features.session_idx
    inner join liquidity_features
        on
            daily_grid.spell_key = liquidity_features.spell_key
            and daily_grid.session_idx = liquidity_features.session_idx
    inner join relative_features
        on
            daily_grid.spell_key = relative_features.spell_key
            and daily_grid.session_idx = relative_features.session_idx
    inner join fundamental_daily
        on
            daily_grid.spell_key = fundamental_daily.spell_key
            and daily_grid.session_idx = fundamental_daily.session_idx
    inner join macro_daily
        on daily_grid.session_idx = macro_daily.session_idx
    inner join announcement_features
        on
            daily_grid.spell_key = announcement_features.spell_key
            and daily_grid.session_idx = announcement_features.session_idx
    inner join short_features
        on
            daily_grid.spell_key = short_features.spell_key
            and daily_grid.session_idx = short_features.session_idx
    left join rank_features
        on
            daily_grid.spell_key = rank_features.spell_key
            and daily_grid.session_idx = rank_features.session_idx
    left join fundamental_features
        on
            daily_grid.spell_key = fundamental_features.spell_key
            and daily_grid.session_idx = fundamental_features.session_idx
    left join verdict_knowledge
        on
            daily_grid.security_id = verdict_knowledge.security_id
            and daily_grid.spell = verdict_knowledge.spell
            and daily_grid.session_idx >= verdict_knowledge.from_session_idx
            and (
                daily_grid.session_idx < verdict_knowledge.before_session_idx
                or verdict_knowledge.before_session_idx is null
            )

)

select
    symbol,
    trade_date,
    security_id,
    session_idx,
    spell,
    sessions_of_history,
    max_available_at,
    fund_available_at,
    fund_period_end,
    fundamentals_basis,
    market_cap_source,
    kind,
    sector,
    close,
    volume,
    market_cap,
    is_traded,
    is_in_universe,
    is_suspect_break,
    ret_1d,
    mom_5,
    mom_1,
    mom_3,
    mom_6,
    mom_12,
    mom_12_1,
    sma_ratio,
    price_to_sma_50,
    price_to_sma_200,
    trend_200,
    sma200_slope,
    sma200_slope_pos,
    drawdown_252,
    range_pos_20,
    rsi_14,
    gap_1d,
    vol_30,
    vol_60,
    vol_90,
    vol_ratio_30_90,
    downside_vol_60,
    skew_ret_60,
    max_ret_21,
    atr_pct,
    atr_14,
    adv_20_median,
    adv_20_log,
    adv_zscore,
    volume_ratio_5_60,
    volume_skew_60,
    amihud_21,
    zero_ret_frac_60,
    traded_frac_60,
    turnover_21,
    price_log,
    mkt_ret_1d,
    beta_252,
    idio_vol_60,
    rel_mom_1,
    rel_mom_3,
    sector_rel_mom_1,
    mom_1_rank,
    mom_12_1_rank,
    vol_60_rank,
    adv_20_rank,
    size_rank,
    pe_ratio,
    pb_ratio,
    eps,
    roe,
    debt_to_equity,
    div_yield,
    revenue_growth_yoy,
    profit_margin,
    current_ratio,
    quick_ratio,
    eps_growth,
    free_cash_flow,
    market_cap_log,
    pe_inverse,
    book_to_price,
    fcf_yield,
    pe_ratio_zscore,
    pb_ratio_zscore,
    pe_inverse_zscore,
    financial_health_score,
    value_score,
    quality_score,
    roe_trend_4,
    eps_trend_4,
    margin_trend_4,
    fund_age_days,
    rba_cash_rate,
    cpi_yoy,
    unemployment,
    yield_2y,
    yield_10y,
    yield_curve_slope,
    delta_cpi,
    delta_rba_rate,
    delta_yield_10y,
    delta_yield_curve_slope,
    ann_count_1d,
    ann_count_21d,
    price_sensitive_21d,
    days_since_price_sensitive,
    ann_sentiment_21d,
    ann_confidence_21d,
    event_guidance_63d,
    event_dividend_63d,
    event_acquisition_63d,
    event_earnings_63d,
    event_capital_raising_63d,
    event_trading_halt_63d,
    stance_bullish_63d,
    stance_bearish_63d,
    stance_neutral_63d,
    sentiment_composite,
    short_pct,
    short_pct_chg_21d
from final
