"""One plan for each published comparison, and the papers' own ways of measuring."""
