"""Numbers and maps become what people look at."""
