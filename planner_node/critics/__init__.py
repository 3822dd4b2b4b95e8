"""Critics: what makes one imagined future better than another. One file each; `registry` in `objective` sums them."""
