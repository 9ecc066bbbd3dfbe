"""HTTP whose every wait has a deadline, and whose connections can be cut from any thread."""
