"""The coordinator: journal, artefact store, relay. It cannot open an image or run a model."""

if __name__ != "wardround.server":
    raise ImportError(f"import wardround.server, not {__name__}")
