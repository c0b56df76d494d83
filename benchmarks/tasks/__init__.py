"""What can be learnt, by kind of task and family of models: beside a plain loop of peft, and among eight devices."""
