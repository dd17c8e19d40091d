"""Metrics of fairness, utility, fidelity and privacy: plain functions on NumPy arrays.

=================  ==============================================================================
module             what it answers
=================  ==============================================================================
`fairness`         what each group gets, ratios and gaps between groups, flips, calibration
`leakage`          how well the sensitive attribute is read from the other columns, and from which
`utility`          how good decisions and predictions are
`marginals`        whether columns and pairs of columns are distributed alike
`manifold`         whether rows lie where real rows lie, in all their variety
`detection`        whether a classifier tells real from synthetic rows
`privacy`          closest records, copies, membership inference
`attacks`          singling out, linkability, inference
=================  ==============================================================================
"""
