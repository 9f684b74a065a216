"""Softmax regression in the manner of scikit-learn."""
