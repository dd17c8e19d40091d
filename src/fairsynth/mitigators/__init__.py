"""Bias removal that is not generation: predictors made fair before, in, or after their training.

Each method is a `fairsynth.mitigators.base.Mitigator`: fitted on a table, it decides for the people of another. The
registry names them; `fairsynth.evaluation.mitigation` scores them as the models of a synthetic table are.
"""
