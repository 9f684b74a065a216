"""Tests of fastsoftmax.torch; they are skipped where torch is not installed."""
