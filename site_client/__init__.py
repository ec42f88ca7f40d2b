"""What runs inside one hospital: the visit, the data, the learning, the egress guard."""

if __name__ != "wardround.site_client":
    raise ImportError(f"import wardround.site_client, not {__name__}")
