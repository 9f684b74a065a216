"""Tables in files: CSV, NPY and NPZ."""
