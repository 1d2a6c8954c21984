"""Steps of zero-downtime changes, by hand."""
