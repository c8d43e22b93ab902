"""The same small applications, for every server that is measured."""
