"""The functions of logits."""
