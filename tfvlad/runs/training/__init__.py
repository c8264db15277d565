"""What trains a model into a run folder."""
