"""Video-generation networks, one file each."""
