"""One reader per layout on disk, and the table that chooses among them."""
