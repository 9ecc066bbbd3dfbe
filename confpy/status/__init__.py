"""What a running confpy tells others of itself: a model, and views of it."""
