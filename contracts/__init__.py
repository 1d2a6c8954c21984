"""What is on the wire: names, models, codec, errors. Models only, no I/O: everybody may import it."""
