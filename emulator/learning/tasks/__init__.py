"""What hosts compute: picklable functions over the jobs of one stack, named by import path."""
