"""Generators that come with the package, trained on real faces; README.md beside this file is their card."""
