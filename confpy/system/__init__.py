"""The only modules that use the operating system: files, processes, file events."""
