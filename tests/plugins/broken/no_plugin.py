from plugbay import BackendPlugin  # noqa: F401
