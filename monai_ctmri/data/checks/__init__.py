"""Every file opened once, and what is wrong with it."""
