"""The bundled checks; each module registers its own in `registry.CHECKS`."""
