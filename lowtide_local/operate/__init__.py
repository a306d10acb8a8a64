"""What an operator does to a deployment from their own machine, with their own credentials."""
