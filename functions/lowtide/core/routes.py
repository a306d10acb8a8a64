from .model import Value


class Routes(Value):
    pass
