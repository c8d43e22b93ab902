"""Plugins that come with Plugbay, each written on the public SDK alone. None so far."""
