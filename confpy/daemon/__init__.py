"""The loop, its threads and signals: everything that carries decisions out."""
