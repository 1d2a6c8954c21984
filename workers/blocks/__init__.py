"""What operators stop by hand."""
