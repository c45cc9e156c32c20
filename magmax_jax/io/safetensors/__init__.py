"""safetensors files: header, reader and writer."""
