"""An HTTP client whose every wait has a deadline, and whose connections can be closed from any thread."""
