"""Synthetic faces: persons from parameters, drawn, dressed and lit."""
