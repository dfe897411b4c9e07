{#
  Fails where a label and its status disagree: a label is there for ok and delisted rows and for no
  other (an unknown outcome is NULL, never a fall), and the sign is the return's.
#}
{% test label_status_agrees(model) %}
    select
        security_id,
        session_idx,
        label_status,
        return_1m_fwd,
        return_1m_fwd_sign
    from {{ model }}
    where
        (label_status = 'ok' and return_1m_fwd is null)
        or (label_status not in ('ok', 'delisted') and return_1m_fwd is not null)
        or (return_1m_fwd is null and return_1m_fwd_sign is not null)
        or (return_1m_fwd > 1e-12 and return_1m_fwd_sign != 1)
        or (return_1m_fwd <= 1e-12 and return_1m_fwd_sign != 0)
        or (return_1m_fwd is not null and return_1m_fwd_sign is null)
{% endtest %}
