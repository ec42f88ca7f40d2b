"""What may leave the site: the egress guard."""
