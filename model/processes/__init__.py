"""The processes of the model, one module of biology a file."""
