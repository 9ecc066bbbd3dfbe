"""What was delivered, as values: the entries of the history, and what asks for them."""
