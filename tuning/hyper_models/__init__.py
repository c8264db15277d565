"""From a search space to trained models: what KerasTuner is given."""
