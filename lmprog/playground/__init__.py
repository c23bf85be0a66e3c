"""`lmprog dev`: a page on a local address that shows a program as its files change, and runs it when it is asked to."""
