"""The embedded engine: SQLite and files behind the storage ports, in one process, on an injected clock."""
