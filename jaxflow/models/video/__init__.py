"""Video-recognition networks, one file each."""
