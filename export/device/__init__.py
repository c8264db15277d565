"""A model as LiteRT (TensorFlow Lite) takes it."""
