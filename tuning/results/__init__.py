"""What a search has found, read from its folder: needs neither TensorFlow nor KerasTuner."""
