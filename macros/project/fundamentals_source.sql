{#
  Where reports come from: the vendor's own history (raw.fundamentals), or the history that the
  snapshot has kept of a vendor's current values (var fundamentals_source).
#}
{% macro fundamentals_source() %}
    {% set known = ['raw', 'snapshot'] %}
    {% if var('fundamentals_source') not in known %}
        {{ exceptions.raise_compiler_error(
            "var fundamentals_source is '" ~ var('fundamentals_source') ~ "'; it is one of: " ~ known | join(', ')
        ) }}
    {% endif %}
    {{ return(ref('stg_fundamentals_snapshot') if var('fundamentals_source') == 'snapshot' else ref('stg_fundamentals')) }}
{% endmacro %}
