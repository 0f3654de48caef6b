"""How fast the product is, how fast the machine would let it be, and how fast the usual way is: `make bench`."""
