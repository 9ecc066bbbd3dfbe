"""From a candidate to a commit: check, swap, put back."""
