"""Saved runs: what they contain, how they are read and compared. No torch, no pytest."""
