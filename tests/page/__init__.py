"""The page in a browser. A package, so that its modules may be called as those beside it are."""
