"""`optimize`, metrics and teachers as a spec declares them."""
