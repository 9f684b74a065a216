"""The commands ``train`` and ``predict``: from a file to a trained classifier, and from that to predictions."""
