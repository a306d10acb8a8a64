"""lowtide: every task on the cheapest lane that still meets its deadline, answered once, with a receipt."""
