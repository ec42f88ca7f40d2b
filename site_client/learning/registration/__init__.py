"""Registration: find the smooth, invertible deformation that brings one image onto another."""
