"""The linear benchmark: passes over features and fits of classifiers, beside scikit-learn and PyTorch."""
