"""What answers questions: models, and the durable record of their answers."""
