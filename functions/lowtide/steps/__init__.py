"""One verb a file: accept, answer, drain, seal, submit, collect. They know ports and core, and no cloud."""
