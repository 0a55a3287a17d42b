"""Cases and the parts that they name."""
