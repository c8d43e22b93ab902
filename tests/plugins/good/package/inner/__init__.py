"""Below the package."""
