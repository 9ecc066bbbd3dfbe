"""Telling a program of its new files, and verifying that it took them."""
