"""What holds on every device."""
