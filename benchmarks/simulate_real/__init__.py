"""The scheduler on the real thing: the product's steps on a real Redis, against emulated regions over HTTP."""
