"""The bundled data sets: each is registered by the module of that name."""
