"""The loop, its jobs, threads and signals: everything that carries out what the agent decides."""
