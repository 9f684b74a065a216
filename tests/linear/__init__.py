"""The functions of features."""
