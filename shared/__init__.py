"""What both sides speak: plan, messages, codec, checkpoint format, seeds, metrics, errors."""

if __name__ != "wardround.shared":
    raise ImportError(f"import wardround.shared, not {__name__}")
