"""``confpy convert``: Go templates, and the resources that name them, as Jinja that a person would have written."""
