"""Generators and discriminators, one file each."""
