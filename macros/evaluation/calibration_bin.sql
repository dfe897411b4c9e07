{#
  Bin of a probability, from 0: calibration_bins bins of nearly equal counts; equal probabilities,
  which share their average rank, share a bin.
    rank  average rank of the probability, from 1
    rows  number of rows ranked
#}
{% macro calibration_bin(rank, rows) -%}
    {%- set bins = var('calibration_bins') -%}
    least(floor(({{ rank }} - 0.5) / {{ rows }} * {{ bins }}), {{ bins - 1 }})
{%- endmacro %}
