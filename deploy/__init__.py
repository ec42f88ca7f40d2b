"""How the parts are put to work: the in-process engine, the command line, the report."""

if __name__ != "wardround.deploy":
    raise ImportError(f"import wardround.deploy, not {__name__}")
