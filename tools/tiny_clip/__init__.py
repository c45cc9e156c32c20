"""How the bundled small CLIP was made."""
