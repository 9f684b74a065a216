"""What the host does for a call on a GPU."""
