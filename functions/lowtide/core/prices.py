class PriceTable:
    pass
