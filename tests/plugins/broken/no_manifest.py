from plugbay import BackendPlugin


class PLUGIN(BackendPlugin):
    pass
