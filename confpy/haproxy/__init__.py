"""HAProxy's configuration and its running state as values: what changed, and which commands make the process follow.

Pure: nothing here opens a file or a socket. ``compare`` says what differs between two contents, or which line needs a
reload; ``questions`` what to ask the process; ``steps`` which commands make it equal to the file; ``unequal`` what
still differs afterwards.
"""
