"""What puts several stages together: predict, demo, doctor."""
