"""The page on which people ask, and see how an answer comes about: plain files for a browser."""
