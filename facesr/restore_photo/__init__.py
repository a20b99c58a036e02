"""Restoring the faces in anyone's photographs."""
