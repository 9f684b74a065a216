"""Linear passes on the CPU: blocks of rows, from features to loss and gradients."""
