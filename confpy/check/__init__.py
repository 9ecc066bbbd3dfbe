"""``confpy check``: what is wrong with a confdir, found without a delivery."""
