"""A file of tasks to a directory of records: the deployed pipeline on the embedded engine."""
