"""The demo data set: streets that the project draws itself; needs no PyTorch."""
