"""The application that Flower runs: LoRA on the rows of the common workload."""
