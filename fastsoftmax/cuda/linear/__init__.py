"""Linear passes on a GPU: chunks of rows between products of the array library."""
