from plugbay import BackendPlugin


class PLUGIN(BackendPlugin):
    def __init__(self) -> None:
        raise OSError("no disk")
