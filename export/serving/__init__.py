"""A model as TensorFlow Serving takes it."""
