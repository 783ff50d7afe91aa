"""How many realisations an exponent needs, and how long a run takes."""
