"""`lmprog dev`: a page on a local address that shows a program as its files change, with buttons that run it."""
