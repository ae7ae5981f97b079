"""What a model is trained on: one file a task, with its settings, losses and metrics."""
