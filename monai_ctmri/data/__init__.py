"""Files on disk become a manifest of cases; the embedded phantom."""
