"""The bundled data sets: a module of that name each, which registers it."""
