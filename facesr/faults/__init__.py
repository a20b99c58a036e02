"""What spoils a picture on its way to low resolution: kernels of blur, resizing, JPEG, for whole batches."""
