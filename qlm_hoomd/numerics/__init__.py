"""Everything that is compiled, and the numerical methods on top: it knows arrays, and no glass."""
