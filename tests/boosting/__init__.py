"""Objectives of gradient boosting, with the packages and without."""
