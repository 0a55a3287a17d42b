"""What is measured: cases, workloads and the pytest modules that declare them."""
