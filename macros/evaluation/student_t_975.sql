{#
  The 97.5 % quantile of Student's t, to 4e-6. Exact for up to ten degrees of freedom, from there R. A.
  Fisher's and E. A. Cornish's expansion around the normal quantile (M. Abramowitz, I. Stegun, Handbook
  of Mathematical Functions, 26.7.5).
    degrees  SQL of a whole number, at least 1
#}
{% macro student_t_975(degrees) -%}
    case {{ degrees }}
        {%- for quantile in [12.706204736, 4.30265273, 3.182446305, 2.776445105, 2.570581836, 2.446911851, 2.364624252, 2.306004135, 2.262157163, 2.228138852] %}
            when {{ loop.index }} then cast({{ quantile }} as double precision)
        {%- endfor %}
        else
            cast(1.959963984540054 as double precision)
            + cast(2.372271230298562 as double precision) / {{ degrees }}
            + cast(2.8224986157396112 as double precision) / power({{ degrees }}, 2)
            + cast(2.555849679507722 as double precision) / power({{ degrees }}, 3)
            + cast(1.5895340533938225 as double precision) / power({{ degrees }}, 4)
    end
{%- endmacro %}
