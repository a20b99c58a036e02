"""Charts and sheets of pictures, drawn with OpenCV."""
