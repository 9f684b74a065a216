"""Linear passes on a GPU."""
